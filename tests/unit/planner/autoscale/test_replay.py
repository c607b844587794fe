"""Loads over time, replayed: a service whose new instances take 20 s to be ready."""

from __future__ import annotations

from dataclasses import replace

from autoscale_values import Change, replay, trace, use

from vmorch.model.autoscale import AutoscaleSpec
from vmorch.model.use import ServiceUse

SPEC = AutoscaleSpec(max=6, concurrency=20, stabilization_seconds=60)


def in_flight(name: str) -> list[Change]:
    load = trace(name)

    def measured(now: float, ready: int) -> ServiceUse:
        return use(now, ready=ready, concurrency=load(now))

    return list(replay(SPEC, measured, until=1800))


def test_a_step_is_answered_at_the_second_tick_and_taken_back_once() -> None:
    """70 requests for 20 each are 4 instances. When the load has gone, the mean of the stable
    window falls, and each count goes once it was not wanted for the time of stabilization."""
    changes = in_flight("step")
    assert changes == [(62, 2), (64, 3), (66, 4), (306, 3), (324, 2), (342, 1)]


def test_a_day_goes_up_and_down_without_flapping() -> None:
    counts = [count for _, count in in_flight("day")]
    assert counts == [2, 3, 4, 3, 2, 1]


def test_a_load_that_flaps_does_not_make_the_instances_flap() -> None:
    assert [count for _, count in in_flight("flapping")] == [2, 3, 4, 3, 2, 1]


def test_a_daemon_that_starts_anew_sees_a_burst_and_does_not_scale_in_early() -> None:
    load = trace("step")

    def measured(now: float, ready: int) -> ServiceUse:
        return use(now, ready=ready, concurrency=load(now))

    for at in (64.0, 100.0, 200.0, 244.0, 320.0):
        again = list(replay(SPEC, measured, until=1800, restarts_at=at))
        up, down = [c for c in again if c[0] < 240], [c for c in again if c[0] >= 240]
        assert up[-1][1] == 4 and up[-1][0] <= 66
        assert down[0][0] >= 306 and down[-1][1] == 1


def test_a_loss_of_measures_changes_nothing_until_they_are_back() -> None:
    load = trace("step")

    def measured(now: float, ready: int) -> ServiceUse:
        known = not 200 <= now < 700
        return use(now, ready=ready, concurrency=load(now) if known else None)

    changes = list(replay(SPEC, measured, until=1800))
    assert [change for change in changes if 66 < change[0] < 750] == []
    assert changes[-1][1] == 1


def test_the_cpu_of_a_step_settles_at_the_target() -> None:
    """Work for 2.4 caps at a target of 60 %: four instances, without going beyond on the way."""
    spec = replace(SPEC, concurrency=None, cpu=0.6)

    def measured(now: float, ready: int) -> ServiceUse:
        work = 2.4 if 60 <= now < 400 else 0.1
        return use(now, ready=ready, cpu=min(work / ready, 1))

    changes = list(replay(spec, measured, until=1200))
    assert max(count for _, count in changes) == 4
    assert changes[-1][1] == 1
