"""The documented examples of Knative's autoscaler, and the table of its own test."""

from __future__ import annotations

import pytest
from autoscale_values import NOW, shown

from vmorch.planner.autoscale import restraint
from vmorch.planner.autoscale.demand import needed, of_concurrency, panicking_since


def decided(
    target: float,
    stable: float,
    panic: float,
    *,
    ready: int,
    current: int | None = None,
    since: float | None = None,
) -> tuple[int, float | None]:
    """The count, and since when there is panic, before any bound but Knative's own."""
    burst = shown(panic, ready=ready, seconds=6)
    since = panicking_since(burst, target=target, before=since, stable_seconds=60)
    demand = of_concurrency(
        shown(stable, ready=ready),
        burst,
        target=target,
        current=ready if current is None else current,
        panicking=since is not None,
        longest_hole_seconds=6,
    )
    assert demand is not None
    return demand.count, since


def test_a_target_that_is_a_share_of_what_an_instance_can_take() -> None:
    assert needed(100, 10 * 0.7) == 15


@pytest.mark.parametrize(
    ("target", "stable", "panic", "ready", "count", "in_panic"),
    [
        (10, 50, 10, 1, 5, False),
        (10, 100, 10, 1, 10, False),
        (10, 50, 50, 5, 5, False),
        (10, 50, 49, 1, 5, True),
        (10, 50, 100, 1, 10, True),
        (10, 100, 100, 8, 10, False),
        (10, 50, 50, 8, 5, False),
        (181, 21, 26, 1, 1, False),
        (10, 1, 0, 1, 1, False),
        (10, 0, 0, 1, 0, False),
        (10, 1000, 888, 0, 100, True),
    ],
)
def test_the_cases(
    target: float, stable: float, panic: float, ready: int, count: int, in_panic: bool
) -> None:
    assert decided(target, stable, panic, ready=ready) == (count, NOW if in_panic else None)


@pytest.mark.parametrize(("stable", "panic", "count"), [(50, 30, 50), (20, 30, 30)])
def test_in_panic_the_greater_of_both_windows_counts(
    stable: float, panic: float, count: int
) -> None:
    assert decided(1, stable, panic, ready=5, since=NOW - 5)[0] == count


def test_an_exponential_rise_is_followed_at_each_look() -> None:
    for ready, load in ((1, 6), (6, 36), (36, 216), (216, 1296)):
        assert decided(1, load, load, ready=ready) == (load, NOW)
    assert decided(1, 1296, 1296, ready=1296, since=NOW - 1) == (1296, NOW - 1)


def test_a_slow_rise_after_a_burst_ends_the_panic() -> None:
    assert decided(1, 11, 25, ready=10) == (25, NOW)
    assert decided(1, 30, 41, ready=40, since=NOW - 30) == (41, NOW - 30)
    assert decided(1, 50, 56, ready=55, since=NOW - 62) == (50, None)


def test_a_burst_that_goes_on_prolongs_the_panic() -> None:
    assert decided(1, 30, 80, ready=40, since=NOW - 30) == (80, NOW)


def test_panic_takes_nothing_away_until_a_stable_window_later() -> None:
    assert decided(10, 100, 1000, ready=10) == (100, NOW)
    assert decided(10, 1, 1, ready=10, current=100, since=NOW - 30) == (100, NOW - 30)
    assert decided(10, 1, 1, ready=10, current=100, since=NOW - 61) == (1, None)


def test_the_delay_of_scaling_in() -> None:
    seen = []
    past = restraint.recommended((), 4, now=2, seconds=300)
    for minute, second, count in (
        (5, 0, 0),
        (5, 2, 0),
        (9, 0, 4),
        (10, 0, 3),
        (11, 0, 0),
        (14, 0, 0),
        (15, 0, 0),
    ):
        past = restraint.recommended(past, count, now=60 * minute + second, seconds=300)
        seen.append(past[0].count)
    assert seen == [4, 0, 4, 4, 4, 3, 0]


def test_without_a_delay_it_is_scaled_in_at_once() -> None:
    past = restraint.recommended((), 4, now=0, seconds=0)
    assert restraint.recommended(past, 2, now=0.5, seconds=0)[0].count == 2
