"""The last instance goes to sleep once nothing was asked for long enough, and else never."""

from __future__ import annotations

from dataclasses import replace

import pytest
from autoscale_values import NOTHING, NOW, TICK, use
from hypothesis import given
from hypothesis import strategies as st

from vmorch.model.autoscale import AutoscaleSpec, ScheduledFloor
from vmorch.model.use import ServiceUse
from vmorch.planner.autoscale import desired

IDLE = 600.0
SPEC = AutoscaleSpec(min=0, max=1, idle_seconds=IDLE)
ALWAYS = ScheduledFloor(start_minute=0, end_minute=0, min=1)
SILENT = replace(use(NOW, ready=1, concurrency=0.0, rps=0.0), connections=0.0)
UNKNOWN = use(NOW, ready=1)
HOLE_TICKS = int(SPEC.panic_window_seconds / TICK) - 1
"""As many as may be missing."""


def asleep_at(*ticks: ServiceUse | None, spec: AutoscaleSpec = SPEC, may_sleep: bool = True) -> int:
    """The tick at which it is put to sleep; -1: at none. None is a tick without any measure."""
    memory, seen = NOTHING, list[ServiceUse]()
    for number, tick in enumerate(ticks):
        now = NOW + TICK * number
        seen = [*seen[-30:], replace(tick, at=now)] if tick else seen
        decision = desired(spec, seen, now=now, current=1, memory=memory, may_sleep=may_sleep)
        if decision.count == 0:
            assert decision.reason == "from 1 to 0: nothing was asked for 10m"
            return number
        memory = decision.memory
    return -1


def silent(seconds: float = IDLE) -> list[ServiceUse]:
    return [SILENT] * int(seconds / TICK)


def test_after_exactly_the_idle_time() -> None:
    assert asleep_at(*silent(), SILENT, SILENT) == IDLE / TICK


@pytest.mark.parametrize(
    "asked",
    [
        replace(SILENT, sessions=1.0),
        replace(SILENT, requests=0.5),
        replace(SILENT, connections=0.5),
        replace(UNKNOWN, sessions=1.0),
        replace(SILENT, ready=0.0),
    ],
)
def test_what_is_asked_begins_it_anew(asked: ServiceUse) -> None:
    assert asleep_at(*silent(), asked, *silent(), SILENT) == 2 * IDLE / TICK + 1


@pytest.mark.parametrize("missing", [UNKNOWN, replace(SILENT, requests=None), None])
def test_a_hole_begins_it_anew_unless_it_is_short(missing: ServiceUse | None) -> None:
    half = silent(IDLE / 2)
    short, long = [missing] * HOLE_TICKS, [missing] * (HOLE_TICKS + 1)
    assert asleep_at(*half, *short, *half, SILENT, SILENT) == IDLE / TICK
    whole = len(half) + len(long) + len(silent())
    assert asleep_at(*half, *long, *silent(), SILENT) == whole


@pytest.mark.parametrize(("tick", "sleeps"), [(TICK, False), (10.0, True)])
def test_ticks_that_are_far_apart_are_no_holes(tick: float, sleeps: bool) -> None:
    memory, counts = NOTHING, list[int]()
    for number in range(100):
        now = NOW + 10 * number
        seen = [replace(SILENT, at=now)]
        decision = desired(SPEC, seen, now=now, current=1, memory=memory, tick_seconds=tick)
        memory = decision.memory
        counts.append(decision.count)
    assert (0 in counts) is sleeps


def test_never_where_nothing_is_known() -> None:
    assert asleep_at(*[UNKNOWN] * 1000) == -1
    assert asleep_at(*[None] * 1000) == -1
    assert asleep_at(*silent(IDLE - TICK), *[None] * 1000) == -1


def test_a_session_that_stays_open_keeps_it_awake() -> None:
    assert asleep_at(*[replace(SILENT, sessions=1.0)] * 1000) == -1


def test_not_under_a_floor_nor_in_a_rollout_nor_with_a_min_of_1() -> None:
    ticks = silent(2 * IDLE)
    assert asleep_at(*ticks, spec=replace(SPEC, schedule=(ALWAYS,))) == -1
    assert asleep_at(*ticks, may_sleep=False) == -1
    assert asleep_at(*ticks, spec=replace(SPEC, min=1)) == -1


@pytest.mark.parametrize("before", [0, 2])
def test_it_counts_from_when_the_last_instance_was_the_only_one_awake(before: int) -> None:
    spec = replace(SPEC, max=2, concurrency=10, stabilization_seconds=0)
    memory, seen, count, alone_from = NOTHING, list[ServiceUse](), before, 0
    for number in range(1000):
        now = NOW + TICK * number
        if before == 0 and number == 100:
            count = 1  # somebody asked
        seen = [*seen[-30:], replace(SILENT, at=now, ready=count)]
        decision = desired(spec, seen, now=now, current=count, memory=memory)
        alone_from = alone_from or (number if count == 1 else 0)
        memory = decision.memory
        if count == 1 and decision.count == 0:
            assert number - alone_from == IDLE / TICK
            return
        count = decision.count
    raise AssertionError("it never sleeps")


def test_who_is_woken_soon_may_be_idle_for_the_whole_time_again() -> None:
    memory, counts = NOTHING, list[int]()
    for number in range(int(2 * IDLE / TICK)):
        now = NOW + TICK * number
        slept = 0 in counts
        current = 0 if slept and 0 not in counts[:-1] else 1
        seen = [replace(SILENT, at=now)]
        decision = desired(SPEC, seen, now=now, current=current, memory=memory)
        memory, counts = decision.memory, [*counts, decision.count]
    assert counts.count(0) == 2, "the tick at which it goes to sleep, and the one until it is woken"


def test_who_is_woken_before_the_next_tick_is_not_put_to_sleep_at_it() -> None:
    memory, seen = NOTHING, list[ServiceUse]()
    slept = list[int]()
    for number in range(int(2 * IDLE / TICK) + 2):
        now = NOW + TICK * number
        seen = [*seen[-30:], replace(SILENT, at=now)]
        decision = desired(SPEC, seen, now=now, current=1, memory=memory)
        memory = decision.memory
        slept += [] if decision.count else [number]
    assert slept == [IDLE / TICK, 2 * IDLE / TICK + 1]


TICKS = st.sampled_from([SILENT, SILENT, SILENT, UNKNOWN, replace(SILENT, requests=1.0), None])


@given(st.lists(TICKS, max_size=40))
def test_it_sleeps_only_after_unbroken_silence(ticks: list[ServiceUse | None]) -> None:
    spec = replace(SPEC, idle_seconds=20.0)
    memory, seen, silent_since, last = NOTHING, list[ServiceUse](), None, None
    for number, tick in enumerate(ticks):
        now = NOW + TICK * number
        seen = [*seen, replace(tick, at=now)] if tick else seen
        if tick is SILENT:
            broken = last is None or now - last > spec.panic_window_seconds
            silent_since, last = (now if broken else silent_since), now
        elif tick is not None and tick is not UNKNOWN:
            silent_since = last = None
        decision = desired(spec, seen, now=now, current=1, memory=memory)
        memory = decision.memory
        if silent_since is None or last is None or last - silent_since < 20:
            assert decision.count == 1
        else:
            assert decision.count == 0
            return
