"""One decision: bounds, restraints, what is missing, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from autoscale_values import NOTHING, NOW, TICK, steady, use

from vmorch.model.autoscale import AutoscaleMemory, AutoscaleSpec, Count, ScheduledFloor
from vmorch.planner.autoscale import Decision, desired

SPEC = AutoscaleSpec(max=10, concurrency=20)
ALWAYS = ScheduledFloor(start_minute=0, end_minute=0, min=3)
CALM = AutoscaleMemory(recommended=(Count(at=NOW - 301, count=1),))


def decide(
    spec: AutoscaleSpec = SPEC,
    *,
    current: int = 1,
    memory: AutoscaleMemory = NOTHING,
    now: float = NOW,
    **loads: Any,
) -> Decision:
    measures = steady(**{"ready": max(1, current), "now": now} | loads)
    return desired(spec, measures, now=now, current=current, memory=memory)


def test_the_load_is_followed_and_said() -> None:
    decision = decide(concurrency=57, current=2)
    assert decision.count == 3
    assert decision.reason == ("from 2 to 3: 57 requests in flight over 60s, 20 for each instance")


@pytest.mark.parametrize(
    ("spec", "current", "loads", "reason"),
    [
        (
            SPEC,
            2,
            {"concurrency": 95},
            "from 2 to 5: 95 requests in flight over 60s, 20 for each instance, in a burst",
        ),
        (
            AutoscaleSpec(max=4, cpu=0.7),
            2,
            {"cpu": 0.91},
            "from 2 to 3: cpu at 91% over 15s, target 70%",
        ),
        (
            AutoscaleSpec(max=4, memory=0.5),
            2,
            {"memory": 0.52},
            "stays at 2: memory at 52% over 15s, target 50%",
        ),
        (
            AutoscaleSpec(max=2, rps=10),
            1,
            {"rps": 34.56},
            "from 1 to 2: 34.6 requests per second over 15s, 10 for each instance; "
            "4 would be above max",
        ),
        (
            AutoscaleSpec(min=2, max=4, rps=10, stabilization_seconds=0),
            3,
            {"rps": 0},
            "from 3 to 2: 0 requests per second over 15s, 10 for each instance; "
            "0 would be below min",
        ),
        (
            AutoscaleSpec(max=4, rps=10, schedule=(ALWAYS,)),
            1,
            {"rps": 0},
            "from 1 to 3: the schedule asks for 3 at least from 00:00 to 00:00 (UTC)",
        ),
        (
            AutoscaleSpec(max=20, concurrency=10),
            1,
            {"concurrency": 120},
            "from 1 to 5: 120 requests in flight over 60s, 10 for each instance, in a burst; "
            "on the way to 12 in steps of 15s",
        ),
        (
            AutoscaleSpec(max=9, concurrency=10),
            3,
            {"concurrency": 20},
            "stays at 3: 20 requests in flight over 60s, 10 for each instance; "
            "but 3 were wanted within the last 5m",
        ),
    ],
)
def test_each_reason_has_its_numbers(
    spec: AutoscaleSpec, current: int, loads: dict[str, float], reason: str
) -> None:
    measures = steady(ready=current, **loads)
    decision = desired(spec, measures, now=NOW, current=current, memory=NOTHING)
    assert decision.reason == reason


@pytest.mark.parametrize("window", [6.0, 60.0])
def test_a_first_reading_of_a_share_scales_nothing_out(window: float) -> None:
    """It shows what the instance does to begin with."""
    spec = AutoscaleSpec(max=10, cpu=0.7, window_seconds=window)
    booting = steady(ready=0, now=NOW - 2)
    decisions = [
        desired(
            spec,
            (*booting, *steady(ready=1, cpu=3.8, now=NOW + later, seconds=later)),
            now=NOW + later,
            current=1,
            memory=NOTHING,
        )
        for later in (0.0, 2.0, 4.0, 6.0)
    ]
    assert [decision.count for decision in decisions] == [1, 1, 1, 5]
    assert "cpu at 380%" in decisions[0].reason
    assert decisions[0].reason.endswith("; known for less than 6s")


def test_what_was_known_before_a_hole_does_not_count() -> None:
    spec = AutoscaleSpec(max=10, cpu=0.7)
    former = steady(ready=1, cpu=0.1, now=NOW - 11, seconds=40)
    again = steady(ready=1, cpu=3.8, seconds=4)
    assert desired(spec, (*former, *again), now=NOW, current=1, memory=NOTHING).count == 1
    nearer = steady(ready=1, cpu=0.1, now=NOW - 10, seconds=40)
    assert desired(spec, (*nearer, *again), now=NOW, current=1, memory=NOTHING).count == 3


def test_a_burst_is_seen_at_the_second_tick() -> None:
    quiet = steady(ready=1, concurrency=0, now=NOW - 4)
    rise = steady(ready=1, concurrency=60, now=NOW, seconds=2)
    first = desired(SPEC, (*quiet, *rise[:1]), now=NOW - 2, current=1, memory=NOTHING)
    second = desired(SPEC, (*quiet, *rise), now=NOW, current=1, memory=first.memory)
    assert (first.count, second.count) == (1, 2)


def test_after_a_burst_nothing_is_taken_away_for_a_stable_window() -> None:
    spec = replace(SPEC, stabilization_seconds=0)
    burst = decide(spec, concurrency=100, current=1)
    assert burst.memory.panicked_at == NOW
    counts = [
        decide(spec, concurrency=0, current=5, now=NOW + later, memory=burst.memory).count
        for later in (2, 58, 60)
    ]
    assert counts == [5, 5, 1]


def test_it_is_scaled_in_when_no_more_was_wanted_for_the_time_of_stabilization() -> None:
    memory = AutoscaleMemory(recommended=(Count(at=NOW, count=4), Count(at=NOW + 100, count=2)))
    early = decide(concurrency=0, current=4, now=NOW + 299, memory=memory)
    assert early.count == 4
    assert decide(concurrency=0, current=4, now=NOW + 300, memory=early.memory).count == 2


def test_a_service_whose_past_is_unknown_is_not_scaled_in_at_the_first_look() -> None:
    decision = decide(concurrency=0, current=6)
    assert decision.count == 6
    assert decide(concurrency=0, current=6, now=NOW + 300, memory=decision.memory).count == 2


def test_steps_in_are_bounded() -> None:
    spec = AutoscaleSpec(max=100, concurrency=1)
    decision = decide(spec, concurrency=0, current=80, memory=CALM)
    assert decision.count == 72
    again = decide(spec, concurrency=0, current=72, memory=decision.memory, now=NOW + 30)
    assert again.count == 72
    assert decide(spec, concurrency=0, current=72, memory=again.memory, now=NOW + 60).count == 64


@pytest.mark.parametrize(
    ("least", "floor", "count"), [(7, 0, 7), (1, 8, 8), (8, 2, 8), (1, 12, 10)]
)
def test_a_floor_is_reached_in_one_step(least: int, floor: int, count: int) -> None:
    schedule = (replace(ALWAYS, min=floor),)
    spec = AutoscaleSpec(min=least, max=10, concurrency=20, schedule=schedule)
    assert decide(spec, concurrency=0, current=1).count == count


def test_a_floor_below_min_is_no_reason() -> None:
    spec = AutoscaleSpec(min=8, max=10, concurrency=20, schedule=(ALWAYS,))
    assert decide(spec, concurrency=0, current=1).reason.endswith("; 0 would be below min")


def test_a_lower_max_is_reached_in_one_step() -> None:
    assert decide(replace(SPEC, max=2), concurrency=900, current=40).count == 2


def test_a_hole_in_the_measures_holds_up_scaling_in() -> None:
    measures = steady(ready=4, concurrency=20)
    spec = replace(SPEC, stabilization_seconds=0)
    hole = [m for m in measures if not NOW - 30 < m.at < NOW - 23]
    lost_tick = [m for m in measures if m.at != NOW - 30]
    old = [m for m in measures if m.at < NOW - 6]
    young = [m for m in measures if m.at > NOW - 50]
    counts = [
        desired(spec, found, now=NOW, current=4, memory=NOTHING).count
        for found in (measures, lost_tick, hole, old, young, [])
    ]
    assert counts == [1, 1, 4, 4, 4, 4]


@pytest.mark.parametrize("load", ["concurrency", "cpu"])
def test_ticks_that_are_far_apart_are_no_holes(load: str) -> None:
    targets: dict[str, Any] = {load: 0.5}
    spec = AutoscaleSpec(max=10, stabilization_seconds=0, **targets)
    loads = {load: 0.2}
    measures = [use(NOW - 10 * back, ready=4, **loads) for back in reversed(range(7))]

    def count(tick_seconds: float) -> int:
        decision = desired(
            spec, measures, now=NOW, current=4, memory=NOTHING, tick_seconds=tick_seconds
        )
        return decision.count

    assert count(2.0) == 4
    assert count(10.0) < 4


def test_what_is_later_than_now_does_not_count() -> None:
    later = steady(ready=1, concurrency=1000, now=NOW + 70)
    assert desired(SPEC, later, now=NOW, current=1, memory=NOTHING).count == 1
    assert desired(SPEC, later, now=NOW + 70, current=1, memory=NOTHING).count == 5


def test_a_clock_that_was_set_back_holds_nothing_up() -> None:
    future = AutoscaleMemory(
        panicked_at=NOW + 9000,
        recommended=(Count(at=NOW + 9000, count=9),),
        in_force=(Count(at=NOW + 9000, count=5),),
    )
    first = decide(concurrency=0, current=5, memory=future)
    assert decide(concurrency=0, current=5, memory=first.memory, now=NOW + 300).count == 1


def test_an_instance_that_has_just_joined_does_not_count_twice() -> None:
    """Its share is low and the others' were high: the sum over all is what it was."""
    spec = AutoscaleSpec(max=9, cpu=0.5)
    before = steady(ready=1, cpu=1.0, now=NOW - 4)
    after = steady(ready=2, cpu=0.5, now=NOW, seconds=2)
    assert desired(spec, (*before, *after), now=NOW, current=2, memory=NOTHING).count == 2


def test_the_last_instance_is_for_sleep_to_take() -> None:
    spec = AutoscaleSpec(min=0, max=3, concurrency=20, idle_seconds=600, stabilization_seconds=0)
    awake = decide(spec, concurrency=0, current=1)
    assert awake.count == 1
    assert awake.reason.endswith("; the last one stays until it is idle")
    assert decide(spec, ready=0, concurrency=0, current=0).count == 0


def test_load_wakes_nobody() -> None:
    """Whoever asks is held in the proxy, which calls for an instance at once."""
    spec = AutoscaleSpec(min=0, max=3, concurrency=20, idle_seconds=600)
    asleep = decide(spec, ready=0, concurrency=50, current=0)
    assert (asleep.count, asleep.reason) == (0, "stays at 0: asleep until somebody asks for it")


@pytest.mark.parametrize("asked", [{"concurrency": 1}, {"rps": 0.5}, {"concurrency": 500}])
def test_who_is_answered_while_it_should_sleep_is_noticed(asked: dict[str, float]) -> None:
    """A rollout keeps an instance awake, so that nobody has to call for one."""
    spec = AutoscaleSpec(min=0, max=5, concurrency=10, idle_seconds=600)
    first = decide(spec, ready=1, current=0, **asked)
    assert first.count == 0, "that may have been asked before it was put to sleep"
    quiet = decide(spec, ready=1, concurrency=0, rps=0, current=0, memory=first.memory, now=NOW + 2)
    assert quiet.count == 0
    woken = decide(spec, ready=1, current=0, memory=first.memory, now=NOW + 2, **asked)
    assert (woken.count, woken.reason) == (1, "from 0 to 1: somebody asks for it")


def test_who_was_answered_between_two_ticks_wakes_nobody() -> None:
    """It was woken for them, and was put to sleep again by hand."""
    spec = AutoscaleSpec(min=0, max=5, concurrency=10, idle_seconds=600)
    first = decide(spec, ready=0, concurrency=0, current=0)
    asleep = steady(ready=0, concurrency=0, now=NOW)
    answered = steady(ready=1, concurrency=3, now=NOW + 2, seconds=2)
    measures = (*asleep, answered[-1])
    again = desired(spec, measures, now=NOW + 2, current=0, memory=first.memory)
    assert again.count == 0


def test_load_is_followed_from_where_it_was_noticed() -> None:
    spec = AutoscaleSpec(min=0, max=5, concurrency=10, idle_seconds=600)
    memory, count, counts = NOTHING, 0, list[int]()
    for tick in range(4):
        now = NOW + tick * TICK
        decision = decide(spec, ready=1, current=count, memory=memory, now=now, concurrency=500)
        memory, count = decision.memory, decision.count
        counts.append(count)
    assert counts == [0, 1, 4, 4]


def test_a_floor_wakes_what_sleeps() -> None:
    spec = AutoscaleSpec(min=0, max=5, idle_seconds=60, schedule=(replace(ALWAYS, end_minute=60),))
    woken = decide(spec, now=3598, current=0)
    assert (woken.count, woken.reason) == (
        3,
        "from 0 to 3: the schedule asks for 3 at least from 00:00 to 01:00 (UTC)",
    )
    assert decide(spec, now=3600, current=0).count == 0


def test_a_sleeping_service_of_which_nothing_is_known_sleeps_on() -> None:
    spec = AutoscaleSpec(min=0, max=3, cpu=0.5, idle_seconds=600)
    assert decide(spec, ready=0, current=0).count == 0


def test_a_schedule_alone_is_enough() -> None:
    spec = AutoscaleSpec(max=5, schedule=(replace(ALWAYS, end_minute=60),), stabilization_seconds=0)
    assert decide(spec, now=3599, current=1).count == 3
    assert decide(spec, now=3600, current=3).count == 1


def test_a_count_that_somebody_else_has_set_holds_until_the_load_wants_more_or_time_is_over() -> (
    None
):
    before = replace(CALM, in_force=(Count(at=NOW - 301, count=1),))
    kept = decide(concurrency=0, current=6, now=NOW, memory=before)
    assert (kept.count, "6 were wanted within the last 5m" in kept.reason) == (6, True)
    assert decide(concurrency=0, current=6, now=NOW + 298, memory=kept.memory).count == 6
    assert decide(concurrency=0, current=6, now=NOW + 300, memory=kept.memory).count == 2
    assert decide(concurrency=150, current=6, now=NOW + 15, memory=kept.memory).count == 8


def test_its_own_count_is_not_taken_for_somebody_else_s() -> None:
    out = decide(concurrency=57, current=2, memory=CALM)
    again = decide(concurrency=0, current=3, now=NOW + 2, memory=out.memory)
    assert again.memory.recommended[0] == Count(at=NOW, count=3)
