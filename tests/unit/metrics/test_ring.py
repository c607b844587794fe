"""The last hour: means of steps, bounded, with holes where nothing was known."""

from __future__ import annotations

import pytest

from vmorch.metrics.ring import STEP_SECONDS, STEPS, Ring
from vmorch.model.use import InstanceUse


def ring_of(*measures: InstanceUse) -> Ring[InstanceUse]:
    ring = Ring(InstanceUse)
    for measure in measures:
        ring.add(measure)
    return ring


def test_a_point_is_the_mean_of_its_step_and_shown_when_that_has_ended() -> None:
    ring = ring_of(
        InstanceUse(at=20.0, cpus=0.2),
        InstanceUse(at=24.0, cpus=0.4, requests=3.0),
        InstanceUse(at=29.9),
    )
    assert list(ring.points()) == []
    ring.add(InstanceUse(at=30.0, cpus=9.0))
    (point,) = ring.points()
    assert point.at == 30.0
    assert (point.cpus, point.requests) == (pytest.approx(0.3), 3.0)
    assert point.rss_bytes is None


def test_the_oldest_go() -> None:
    count = STEPS + 50
    ring = ring_of(*(InstanceUse(at=n * STEP_SECONDS, cpus=n) for n in range(count + 1)))
    points = list(ring.points())
    assert [point.cpus for point in points] == list(range(50, count))
    assert [p.cpus for p in ring.points(since=points[-2].at)] == [count - 1]


def test_nothing_is_made_up_for_time_in_which_nobody_looked() -> None:
    ring = ring_of(*(InstanceUse(at=at, cpus=1.0) for at in (5.0, 500.0, 1000.0)))
    assert [point.at for point in ring.points()] == [10.0, 510.0]
