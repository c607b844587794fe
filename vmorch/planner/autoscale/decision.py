"""The decision: what the loads ask for, then one restraint after the other. Pure;
`vmorch.reconciler.autoscaling` asks at each tick of the measures, keeps `Decision.memory` and makes
`count` the desired one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vmorch.model.autoscale import AutoscaleMemory, AutoscaleSpec, Count, Load, Silence
from vmorch.model.schedule import floor_at, floor_text, least_at
from vmorch.model.use import ServiceUse
from vmorch.planner.autoscale import restraint
from vmorch.planner.autoscale.demand import (
    Demand,
    of_concurrency,
    of_tracked,
    once_known,
    panicking_since,
)
from vmorch.planner.autoscale.idle import is_asked, silence, why_asleep
from vmorch.planner.autoscale.window import window
from vmorch.planner.autoscale.words import seconds_text
from vmorch.planner.sleeping import ASLEEP_FOR_IDLENESS

_LOST_TICKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`count` instances, and why, with the numbers. `memory` is for the next decision."""

    count: int
    reason: str
    memory: AutoscaleMemory


@dataclass(frozen=True, slots=True)
class _Choice:
    """A count on its way through the restraints."""

    count: int
    why: str


@dataclass(frozen=True, slots=True)
class _Look:
    """What a decision is about."""

    spec: AutoscaleSpec
    measures: Sequence[ServiceUse]
    now: float
    current: int
    tick_seconds: float

    @property
    def longest_hole_seconds(self) -> float:
        """Without measures in between, for what is known all the same: some lost ticks."""
        return max(self.spec.panic_window_seconds, _LOST_TICKS * self.tick_seconds)


def desired(
    spec: AutoscaleSpec,
    measures: Sequence[ServiceUse],
    *,
    now: float,
    current: int,
    memory: AutoscaleMemory,
    may_sleep: bool = True,
    tick_seconds: float = 0.0,
) -> Decision:
    """How many instances there should be instead of `current`, the count that holds by now.

    `measures` are in the order of time and reach back for at least `spec.look_back_seconds`; an
    empty memory is that of a service that was never decided on. A count of 0 is of a service that
    sleeps: whoever asks wakes it, and what waits does not raise it; a floor of the schedule does,
    and so does what an instance answers that is awake all the same. With `may_sleep` the last
    instance may go to sleep when it is idle. `tick_seconds` is how far measures are apart.
    """
    look = _Look(spec, measures, now, current, tick_seconds)
    memory = _begun(memory, look)
    if current == 0 and spec.min == 0:
        return _asleep(look, memory)
    silent = _silence(look, memory)
    panicked_at = _panicked_at(look, memory)
    wanted = _bounded(_asked(look, panicking=panicked_at is not None), look)
    recommended = restraint.recommended(
        memory.recommended, wanted.count, now=now, seconds=spec.stabilization_seconds
    )
    steady = _stabilized(wanted, recommended[0], look)
    final = _stepped(steady, memory.in_force, look)
    if may_sleep:
        final = _lulled(final, silent, look)
    return Decision(
        count=final.count,
        reason=_sentence(final, current),
        memory=AutoscaleMemory(
            panicked_at=panicked_at,
            recommended=recommended,
            in_force=restraint.in_force(memory.in_force, final.count, now=now),
            silence=silent,
        ),
    )


def _begun(memory: AutoscaleMemory, look: _Look) -> AutoscaleMemory:
    """With `current` as what holds. Without a past it was recommended now: a service whose past is
    unknown is not scaled in at the first look; nor is one whose count somebody else has changed
    since, as if the load had asked for it, nor put to sleep for what was before. Nothing is from
    the future: a clock that was set back must not hold up what follows."""
    now, current = look.now, look.current
    past = tuple(replace(held, at=min(held.at, now)) for held in memory.in_force)
    recommended = tuple(replace(old, at=min(old.at, now)) for old in memory.recommended)
    by_somebody_else = bool(past) and past[-1].count != current
    if by_somebody_else or not recommended:
        seconds = look.spec.stabilization_seconds
        recommended = restraint.recommended(recommended, current, now=now, seconds=seconds)
    panicked_at = memory.panicked_at
    return AutoscaleMemory(
        panicked_at=None if panicked_at is None else min(panicked_at, now),
        recommended=recommended,
        in_force=restraint.in_force(past, current, now=now),
        silence=None if by_somebody_else else memory.silence,
    )


def _asleep(look: _Look, memory: AutoscaleMemory) -> Decision:
    """A floor that begins wakes it; how it went before does not matter any more."""
    floor = floor_at(look.spec.schedule, look.now)
    final = _Choice(0, ASLEEP_FOR_IDLENESS)
    if _answers(look, memory):
        final = _Choice(1, "somebody asks for it")
    if floor is not None:
        least = least_at(look.spec, look.now)
        final = _Choice(least, f"the schedule asks for {floor_text(floor)}")
    in_force = restraint.in_force(memory.in_force, final.count, now=look.now)
    return Decision(
        count=final.count,
        reason=_sentence(final, 0),
        memory=AutoscaleMemory(recommended=memory.recommended, in_force=in_force),
    )


def _answers(look: _Look, memory: AutoscaleMemory) -> bool:
    """Whether it is asked while an instance is awake, as in a rollout: then nobody calls for one.
    What the tick shows in which the count became 0 was asked before; so was what an instance
    answered that was awake for a moment, between two ticks."""
    if len(look.measures) < 2 or memory.in_force[-1].at >= look.now:
        return False
    before, newest = look.measures[-2:]
    return before.ready >= 1 and newest.ready >= 1 and is_asked(newest)


def _silence(look: _Look, memory: AutoscaleMemory) -> Silence | None:
    """That of the last instance, since it is the last."""
    if look.current > 1:
        return None
    if not look.measures:
        return memory.silence
    hole = look.longest_hole_seconds
    return silence(memory.silence, look.measures[-1], longest_hole_seconds=hole)


def _lulled(choice: _Choice, silent: Silence | None, look: _Look) -> _Choice:
    """Asleep, if it is the last one and idle, and no floor holds."""
    if choice.count > 1 or look.current > 1 or floor_at(look.spec.schedule, look.now) is not None:
        return choice
    why = why_asleep(look.spec, silent)
    return _Choice(0, why) if why else choice


def _panicked_at(look: _Look, memory: AutoscaleMemory) -> float | None:
    spec = look.spec
    if spec.concurrency is None:
        return None
    seconds = spec.panic_window_seconds
    return panicking_since(
        window(look.measures, Load.CONCURRENCY, now=look.now, seconds=seconds),
        target=spec.concurrency,
        before=memory.panicked_at,
        stable_seconds=spec.window_seconds,
    )


def _asked(look: _Look, *, panicking: bool) -> _Choice:
    """The greatest of what the loads ask for. What is not known might ask for all there is."""
    targets = [load for load in Load if getattr(look.spec, load.value) is not None]
    demands = {load: _demand(load, look, panicking) for load in targets}
    known = [demand for demand in demands.values() if demand is not None]
    unsure = [load for load, demand in demands.items() if demand is None or not demand.certain]
    greatest = max(known, key=lambda demand: demand.count, default=None)
    if unsure and (greatest is None or greatest.count < look.current):
        names = " and ".join(unsure)
        return _Choice(look.current, f"measures of {names} are missing, so none is taken away")
    if greatest is None:
        return _Choice(look.spec.min, "no load has a target")
    return _Choice(greatest.count, greatest.reason)


def _demand(load: Load, look: _Look, panicking: bool) -> Demand | None:
    spec = look.spec
    target: float = getattr(spec, load.value)
    if load is not Load.CONCURRENCY:
        return _tracked_demand(load, target, look)
    stable, panic = (
        window(look.measures, load, now=look.now, seconds=seconds)
        for seconds in (spec.window_seconds, spec.panic_window_seconds)
    )
    return of_concurrency(
        stable,
        panic,
        target=target,
        current=look.current,
        panicking=panicking,
        longest_hole_seconds=look.longest_hole_seconds,
    )


def _tracked_demand(load: Load, target: float, look: _Look) -> Demand | None:
    recent, every = (
        window(look.measures, load, now=look.now, seconds=seconds)
        for seconds in (look.spec.tracking_window_seconds, look.spec.look_back_seconds)
    )
    hole = look.longest_hole_seconds
    demand = of_tracked(
        load, recent, target=target, current=look.current, longest_hole_seconds=hole
    )
    if demand is None:
        return None
    return once_known(demand, known_seconds=every.known_seconds(hole), current=look.current)


def _bounded(choice: _Choice, look: _Look) -> _Choice:
    """Within min, max and the schedule. The last instance is not taken away here: that one goes
    to sleep, once it is idle."""
    spec, bottom = look.spec, least_at(look.spec, look.now)
    if choice.count > spec.max:
        return _Choice(spec.max, f"{choice.why}; {choice.count} would be above max")
    if choice.count < bottom:
        return _Choice(bottom, _why_not_less(choice, bottom, look))
    if choice.count == 0 and look.current > 0:
        return _Choice(1, f"{choice.why}; the last one stays until it is idle")
    return choice


def _why_not_less(choice: _Choice, bottom: int, look: _Look) -> str:
    floor = floor_at(look.spec.schedule, look.now)
    if floor is None or bottom == look.spec.min:
        return f"{choice.why}; {choice.count} would be below min"
    return f"the schedule asks for {floor_text(floor)}"


def _stabilized(choice: _Choice, greatest: Count, look: _Look) -> _Choice:
    """In no further than the greatest that was wanted lately; out at once."""
    held = min(look.current, greatest.count, look.spec.max)
    if choice.count >= held:
        return choice
    seconds = look.spec.stabilization_seconds
    why = f"{greatest.count} were wanted within the last {seconds_text(seconds)}"
    return _Choice(held, f"{choice.why}; but {why}")


def _stepped(choice: _Choice, past: tuple[Count, ...], look: _Look) -> _Choice:
    """No step holds up the bounds, nor goes back on another one's way."""
    now, spec = look.now, look.spec
    least = min(restraint.least(past, now), look.current, spec.max)
    most = max(restraint.most(past, now), look.current, least_at(spec, now))
    count = max(least, min(choice.count, most))
    if count == choice.count:
        return choice
    step = restraint.OUT if choice.count > look.current else restraint.IN
    why = f"{choice.why}; on the way to {choice.count} in steps of {seconds_text(step.seconds)}"
    return _Choice(count, why)


def _sentence(choice: _Choice, current: int) -> str:
    if choice.count == current:
        return f"stays at {current}: {choice.why}"
    return f"from {current} to {choice.count}: {choice.why}"
