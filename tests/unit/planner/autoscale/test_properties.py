"""What must hold of every decision, whatever the load, the past and the holes in the measures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autoscale_values import NOTHING, NOW, TICK, use
from hypothesis import given, settings
from hypothesis import strategies as st

from vmorch.model.autoscale import (
    AutoscaleMemory,
    AutoscaleSpec,
    Count,
    Load,
    ScheduledFloor,
    Silence,
)
from vmorch.model.use import ServiceUse
from vmorch.planner.autoscale import Decision, desired

SHARE = st.floats(0, 1.5)
COUNT = st.integers(0, 40)
FIELDS = {
    Load.CONCURRENCY: "sessions",
    Load.RPS: "requests",
    Load.CPU: "cpu_share",
    Load.MEMORY: "memory_share",
}


@st.composite
def specs(draw: st.DrawFn) -> AutoscaleSpec:
    most = draw(st.integers(1, 40))
    least = draw(st.integers(0, most))
    hours = st.integers(0, 1439)
    floors = st.builds(
        ScheduledFloor,
        start_minute=hours,
        end_minute=hours,
        min=st.integers(1, most),
        days=st.lists(st.integers(0, 6), min_size=1, unique=True).map(tuple),
        tz=st.sampled_from(["UTC", "Asia/Kolkata"]),
    )
    target, share = st.none() | st.floats(0.5, 100), st.none() | st.floats(0.05, 1)
    return AutoscaleSpec(
        min=least,
        max=most,
        concurrency=draw(target),
        rps=draw(target),
        cpu=draw(share),
        memory=draw(share),
        idle_seconds=None if least else 60.0,
        stabilization_seconds=draw(st.sampled_from([0.0, 20.0, 300.0])),
        window_seconds=draw(st.sampled_from([10.0, 60.0])),
        schedule=tuple(draw(st.lists(floors, max_size=2))),
    )


@st.composite
def ticks(draw: st.DrawFn) -> ServiceUse:
    ready = draw(st.integers(0, 12))
    told = draw(st.integers(0, ready))
    share = st.none() | SHARE if told else st.none()
    requests = st.none() | st.floats(0, 2000)
    loads = {"concurrency": requests, "rps": requests, "cpu": share, "memory": share}
    drawn = {load: draw(values) for load, values in loads.items()}
    return replace(use(NOW, ready=ready, told=told, **drawn), connections=draw(requests))


@st.composite
def windows(draw: st.DrawFn) -> tuple[ServiceUse, ...]:
    """Few kinds of ticks, repeated: long enough to fill a window, with holes or without."""
    kinds = draw(st.lists(ticks(), min_size=1, max_size=3))
    order = draw(st.lists(st.sampled_from([*kinds, None]), min_size=31, max_size=31))
    plain = draw(st.booleans())
    chosen = [kinds[0]] * 31 if plain else order
    times = [NOW - TICK * i for i in reversed(range(31))]
    return tuple(replace(m, at=at) for m, at in zip(chosen, times, strict=True) if m)


@st.composite
def memories(draw: st.DrawFn) -> AutoscaleMemory:
    ago = st.floats(0, 400).map(lambda seconds: NOW - seconds)
    counts = st.lists(st.builds(Count, at=ago, count=COUNT), max_size=4)
    recommended = {c.count: c for c in draw(counts)}
    return AutoscaleMemory(
        panicked_at=draw(st.none() | ago),
        recommended=tuple(c for _, c in sorted(recommended.items(), reverse=True)),
        in_force=tuple(sorted(draw(counts), key=lambda c: c.at)),
        silence=draw(st.none() | st.builds(Silence, since=ago, until=st.just(NOW - TICK))),
    )


def decide(
    spec: AutoscaleSpec,
    measures: tuple[ServiceUse, ...],
    current: int,
    memory: AutoscaleMemory,
    now: float = NOW,
) -> Decision:
    return desired(spec, measures, now=now, current=current, memory=memory)


@given(specs(), windows(), COUNT, memories())
@settings(max_examples=100, deadline=None)
def test_it_is_within_its_bounds_and_the_same_each_time(
    spec: AutoscaleSpec,
    measures: tuple[ServiceUse, ...],
    current: int,
    memory: AutoscaleMemory,
) -> None:
    decision = decide(spec, measures, current, memory)
    assert spec.min <= decision.count <= spec.max
    assert decision == decide(spec, measures, current, memory)
    assert str(decision.count) in decision.reason
    assert len(decision.memory.recommended) <= 41  # counts are up to 40


@given(specs(), windows(), COUNT, memories(), st.sampled_from(Load), st.floats(6.5, 60))
@settings(max_examples=100, deadline=None)
def test_missing_measures_never_scale_in(
    spec: AutoscaleSpec,
    measures: tuple[ServiceUse, ...],
    current: int,
    memory: AutoscaleMemory,
    load: Load,
    silent_seconds: float,
) -> None:
    target: dict[str, Any] = {load.value: 0.5}
    spec = replace(spec, **target)
    silent: dict[str, Any] = {FIELDS[load]: None}
    known = tuple(replace(m, **silent) if m.at > NOW - silent_seconds else m for m in measures)
    assert decide(spec, known, current, memory).count >= min(current, spec.max)


@given(
    st.sampled_from(["cpu", "memory"]),
    st.floats(0.05, 0.9),
    st.floats(0, 1),
    st.integers(1, 12).flatmap(
        lambda ready: st.lists(st.integers(0, ready), min_size=31, max_size=31).map(
            lambda told: [ready, *told]
        )
    ),
)
@settings(max_examples=200, deadline=None)
def test_silence_of_some_is_not_taken_for_less_load(
    load: str, target: float, share: float, instances: list[int]
) -> None:
    ready, *told = instances
    targets: dict[str, Any] = {load: target}
    spec = AutoscaleSpec(max=12, stabilization_seconds=0, **targets)
    times = [NOW - TICK * i for i in reversed(range(31))]
    loads: dict[str, Any] = {load: share}
    known = tuple(use(at, ready=ready, **loads) for at in times)
    partly = tuple(
        use(at, ready=ready, told=some, **loads)
        for at, some in zip(times, told, strict=True)
        if some
    )
    less = decide(spec, partly, ready, NOTHING).count
    assert less >= min(ready, decide(spec, known, ready, NOTHING).count)


@given(specs(), windows(), COUNT, memories(), st.floats(1, 5), st.floats(0, 50))
@settings(max_examples=100, deadline=None)
def test_more_load_never_gives_less(
    spec: AutoscaleSpec,
    measures: tuple[ServiceUse, ...],
    current: int,
    memory: AutoscaleMemory,
    factor: float,
    extra: float,
) -> None:
    def grown(value: float | None, more: float) -> float | None:
        return None if value is None else value * factor + more

    busier = tuple(
        replace(
            m,
            sessions=grown(m.sessions, extra),
            requests=grown(m.requests, extra),
            cpu_share=grown(m.cpu_share, extra / 100),
            memory_share=grown(m.memory_share, extra / 100),
        )
        for m in measures
    )
    more = decide(spec, busier, current, memory)
    assert more.count >= decide(spec, measures, current, memory).count


@given(specs(), windows(), COUNT, memories(), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_floor_of_the_schedule_holds(
    spec: AutoscaleSpec,
    measures: tuple[ServiceUse, ...],
    current: int,
    memory: AutoscaleMemory,
    hours: int,
) -> None:
    """NOW is 02:46 on a Thursday in UTC."""
    floor = ScheduledFloor(start_minute=60 * hours, end_minute=300, min=spec.max, days=(3,))
    decision = decide(replace(spec, schedule=(*spec.schedule, floor)), measures, current, memory)
    assert decision.count == spec.max or hours == 3


@given(
    st.lists(st.tuples(st.none() | st.floats(0, 60), st.integers(1, 25)), min_size=1, max_size=8),
    st.sampled_from([0.0, 20.0]),
)
@settings(max_examples=100, deadline=None)
def test_steps_are_bounded_over_any_load(
    phases: list[tuple[float | None, int]], stabilization: float
) -> None:
    spec = AutoscaleSpec(max=60, concurrency=1, stabilization_seconds=stabilization)
    loads = [load for load, ticks in phases for _ in range(ticks)]
    counts, memory, measures = [10], NOTHING, tuple[ServiceUse, ...]()
    for tick, load in enumerate(loads):
        now = tick * TICK
        measures = (*measures[-30:], use(now, ready=counts[-1], concurrency=load))
        decision = decide(spec, measures, counts[-1], memory, now)
        memory = decision.memory
        counts.append(decision.count)
    for at, count in enumerate(counts):
        lowest, highest = (
            min(counts[max(0, at - 7) : at + 1]),
            max(counts[max(0, at - 30) : at + 1]),
        )
        assert count <= max(2 * lowest, lowest + 4)
        assert count >= highest - max(4, -(-highest // 10))
