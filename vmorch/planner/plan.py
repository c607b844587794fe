"""plan(snapshot, now): the one place where it is decided what happens next.

Pure and deterministic: no clock, no I/O, no randomness; the reconciler performs the result.
What must hold of every plan is written down, and checked in every cycle, in `invariants`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from vmorch.model.instance import Goal, State
from vmorch.model.spec import DependencyCondition, ServiceSpec
from vmorch.planner.actions import Action, DestroyOrphan, Note, Plan, StartGuest, WakeGuest
from vmorch.planner.capacity import Room, room_of
from vmorch.planner.invariants import check
from vmorch.planner.lifecycle import decide
from vmorch.planner.occupied import occupied
from vmorch.planner.replicas import shape
from vmorch.planner.sleeping import at_rest
from vmorch.planner.slots import Slots
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot
from vmorch.planner.verdict import ALIVE, Moment
from vmorch.planner.warming import warm_up

GOING = frozenset({Goal.STOP, Goal.SLEEP, Goal.REMOVE})


def plan(snapshot: Snapshot, now: float) -> Plan:
    """What to do at `now` (seconds since the epoch), and when to look again."""
    actions: list[Action] = [
        DestroyOrphan(domain=name, reason="its instance is gone") for name in snapshot.orphans
    ]
    wakes: list[float] = []
    begun: set[tuple[str, str, int]] = set()
    slots = Slots.free(snapshot)
    room = room_of(snapshot)
    for environment in snapshot.environments:
        shaping = shape(environment, now)
        actions += shaping.actions
        wakes += shaping.wakes
        reshaped = {action.instance.key for action in shaping.actions if isinstance(action, Note)}
        # Most of a fleet is like that, and asks neither for room nor for a slot.
        running = Moment(now=now, time_scale=snapshot.time_scale, may_boot=True)
        resting = replace(running, at_rest=True)
        for view in environment.instances:
            if view.instance.key in reshaped:
                continue
            rests = at_rest(environment, view)
            moment = resting if rests else running
            if view.guest not in ALIVE or view.instance.goal in GOING:
                moment = _moment(environment, view, snapshot, now, slots, room, begun)
                moment = replace(moment, at_rest=rests)
            verdict = decide(view, moment)
            if verdict.wake_at is not None:
                wakes.append(verdict.wake_at)
            if verdict.action is not None:
                actions.append(verdict.action)
                if isinstance(verdict.action, StartGuest | WakeGuest):
                    begun.add(view.instance.key)
                    slots.take(verdict.action)
                    room = room.with_start(view)
    if warming := warm_up(snapshot, slots, room):
        actions.append(warming)
    result = Plan(actions=tuple(actions), wake_at=min(wakes, default=None))
    check(snapshot, result)
    return result


def _moment(
    environment: EnvironmentView,
    view: InstanceView,
    snapshot: Snapshot,
    now: float,
    slots: Slots,
    room: Room,
    begun: Collection[tuple[str, str, int]],
) -> Moment:
    warm = (view.instance.service, view.instance.revision) in environment.warm
    no_slot = no_room = waiting_for = ""
    if view.guest not in ALIVE:
        no_slot, no_room = slots.lacks(view.instance, warm=warm), room.lacks(view)
        waiting_for = _unmet(environment, view.spec) or occupied(environment, view, begun)
        waiting_for = waiting_for or no_room or no_slot
    return Moment(
        now=now,
        time_scale=snapshot.time_scale,
        may_boot=not waiting_for,
        may_wake=environment.network_ready and not no_slot,
        no_room=no_room,
        waiting_for=waiting_for,
        held_by=held_by(environment, view),
        warm=warm,
    )


def waiting_for_service(name: str, condition: DependencyCondition) -> str:
    return f"waiting for '{name}' ({condition})"


def _unmet(environment: EnvironmentView, spec: ServiceSpec) -> str:
    """What a start waits for, for people; empty when nothing."""
    if not environment.network_ready:
        trouble = f": {environment.network_trouble}" if environment.network_trouble else ""
        return f"waiting for the environment's network{trouble}"
    for name, condition in spec.depends_on.items():
        if not meets(condition, environment, [v for v in environment.of(name) if v.wanted]):
            return waiting_for_service(name, condition)
    return ""


def meets(
    condition: DependencyCondition, environment: EnvironmentView, views: Sequence[InstanceView]
) -> bool:
    """A service that ran and has completed was started, too; one that sleeps until somebody asks
    for it will answer whoever does."""
    completed = [view.instance.exit_code == 0 for view in views]
    answers = [
        view.instance.state is State.READY
        or (view.instance.state is State.SLEEPING and at_rest(environment, view))
        for view in views
    ]
    match condition:
        case DependencyCondition.STARTED:
            running = [view.instance.state is State.RUNNING for view in views]
            return any(running) or any(answers) or any(completed)
        case DependencyCondition.HEALTHY:
            return bool(views) and all(answers)
        case DependencyCondition.COMPLETED:
            return bool(views) and all(completed)


def held_by(environment: EnvironmentView, view: InstanceView) -> str:
    """The service that needs this one and whose guests are on their way down, too."""
    if view.instance.goal not in GOING:
        return ""
    for other in environment.instances:
        on_its_way = other.instance.goal in GOING and (other.busy or other.guest is not None)
        if on_its_way and view.instance.service in other.spec.depends_on:
            return other.instance.service
    return ""
