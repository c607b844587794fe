"""plan(snapshot, now): the one place where it is decided what happens next.

Pure and deterministic: no clock, no I/O, no randomness; the reconciler performs the result.

Invariants, checked by `check` in every cycle and by the simulation:
- never two actions for one instance in one plan, never one for an instance that is busy;
- an old revision's instance goes only when the new one's are ready in its place, so a change of
  revision never lowers the number of ready instances below `replicas`; with volumes, it goes
  first, and by at most one;
- a guest that has a volume of its own is never started while another has the same one;
- an environment goes only when none of its instances is left and the proxy has let go of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vmorch.errors import VmorchError
from vmorch.model.event import EventKind
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.spec import DependencyCondition, ServiceSpec
from vmorch.planner.actions import (
    ABOUT_ONE_INSTANCE,
    Action,
    CreateInstance,
    DestroyOrphan,
    Note,
    Plan,
    RemoveEnvironment,
    StartGuest,
    WakeGuest,
)
from vmorch.planner.lifecycle import decide, is_booting
from vmorch.planner.occupied import occupied
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot
from vmorch.planner.verdict import Moment
from vmorch.planner.warming import warm_up

REMOVED_REASON = "the environment is being removed"
GOING = frozenset({Goal.STOP, Goal.SLEEP, Goal.REMOVE})


def plan(snapshot: Snapshot, now: float) -> Plan:
    """What to do at `now` (seconds since the epoch), and when to look again."""
    actions: list[Action] = [
        DestroyOrphan(domain=name, reason="its instance is gone") for name in snapshot.orphans
    ]
    wakes: list[float] = []
    free_slots = snapshot.boots_at_once - sum(
        is_booting(view) for env in snapshot.environments for view in env.instances
    )
    for environment in snapshot.environments:
        shaping = list(_shape(environment))
        actions += shaping
        reshaped = {action.instance.key for action in shaping if isinstance(action, Note)}
        for view in environment.instances:
            if view.instance.key in reshaped:
                continue
            verdict = decide(view, _moment(environment, view, snapshot, now, free_slots))
            if verdict.wake_at is not None:
                wakes.append(verdict.wake_at)
            if verdict.action is not None:
                actions.append(verdict.action)
                starts = isinstance(verdict.action, StartGuest | WakeGuest)
                free_slots -= starts and not is_booting(view)
    if warming := warm_up(snapshot, free_slots):
        actions.append(warming)
    result = Plan(actions=tuple(actions), wake_at=min(wakes, default=None))
    check(snapshot, result)
    return result


def check(snapshot: Snapshot, result: Plan) -> None:
    """Raises VmorchError when a plan breaks an invariant: a bug of ours, better stopped here."""
    touched = [a.instance.key for a in result.actions if isinstance(a, ABOUT_ONE_INSTANCE)]
    busy = {
        view.instance.key for env in snapshot.environments for view in env.instances if view.busy
    }
    if len(touched) != len(set(touched)):
        raise VmorchError("The plan acts twice on one instance.")
    if busy & set(touched):
        raise VmorchError("The plan acts on an instance that is busy.")


def _moment(
    environment: EnvironmentView,
    view: InstanceView,
    snapshot: Snapshot,
    now: float,
    free_slots: int,
) -> Moment:
    waiting_for = _unmet(environment, view.spec) or occupied(environment, view)
    if not waiting_for and free_slots < 1:
        waiting_for = f"waiting for one of {snapshot.boots_at_once} boot slots"
    return Moment(
        now=now,
        time_scale=snapshot.time_scale,
        may_boot=not waiting_for,
        may_wake=environment.network_ready and free_slots >= 1,
        waiting_for=waiting_for,
        held_by=_held_by(environment, view),
        warm=(view.instance.service, view.instance.revision) in environment.warm,
    )


def _unmet(environment: EnvironmentView, spec: ServiceSpec) -> str:
    """What a start waits for, for people; empty when nothing."""
    if not environment.network_ready:
        trouble = f": {environment.network_trouble}" if environment.network_trouble else ""
        return f"waiting for the environment's network{trouble}"
    for name, condition in spec.depends_on.items():
        if not _meets(condition, [v.instance for v in environment.of(name) if v.wanted]):
            return f"waiting for '{name}' ({condition})"
    return ""


def _meets(condition: DependencyCondition, instances: list[Instance]) -> bool:
    """A service that ran and has completed was started, too."""
    completed = [i.exit_code == 0 for i in instances]
    match condition:
        case DependencyCondition.STARTED:
            return any(i.state in {State.RUNNING, State.READY} for i in instances) or any(completed)
        case DependencyCondition.HEALTHY:
            return bool(instances) and all(i.state is State.READY for i in instances)
        case DependencyCondition.COMPLETED:
            return bool(instances) and all(completed)


def _held_by(environment: EnvironmentView, view: InstanceView) -> str:
    """The service that needs this one and whose guests are on their way down, too."""
    if view.instance.goal not in GOING:
        return ""
    for other in environment.instances:
        on_its_way = other.instance.goal in GOING and (other.busy or other.guest is not None)
        if on_its_way and view.instance.service in other.spec.depends_on:
            return other.instance.service
    return ""


# How many instances of which revision


def _shape(environment: EnvironmentView) -> Iterator[Action]:
    """Make the set of instances the declared one: create what is missing, dismiss what is not."""
    if environment.removing:
        yield from _dismiss(environment.instances, REMOVED_REASON)
        if not environment.instances and not environment.in_proxy and not environment.busy:
            yield RemoveEnvironment(
                environment=environment.name, reason="nothing of it is left running"
            )
        return
    for name in sorted({view.instance.service for view in environment.instances}):
        if name not in environment.services:
            yield from _dismiss(environment.of(name), "its service is no longer declared")
    for name, spec in environment.services.items():
        if spec.volumes:
            yield from _shape_with_volumes(environment, name, spec.replicas)
        else:
            yield from _shape_service(environment, name, spec.replicas)


def _shape_service(environment: EnvironmentView, name: str, replicas: int) -> Iterator[Action]:
    revision = environment.current[name]
    wanted = [view for view in environment.of(name) if view.wanted]
    new = [view for view in wanted if view.instance.revision == revision]
    old = [view for view in wanted if view.instance.revision != revision]
    for _ in range(replicas - len(new)):
        yield CreateInstance(
            environment=environment.name,
            service=name,
            revision=revision,
            reason=f"{len(new)} of {replicas} instances of revision {revision}",
        )
    yield from _dismiss(
        _most_dispensable(new)[: max(0, len(new) - replicas)], f"scaled to {replicas}"
    )
    keep = max(0, replicas - sum(map(_is_done, new)))
    yield from _dismiss(
        _most_dispensable(old)[: max(0, len(old) - keep)], f"replaced by revision {revision}"
    )


def _shape_with_volumes(environment: EnvironmentView, name: str, replicas: int) -> Iterator[Action]:
    """Stop first: a volume has one owner, so a successor comes when its forerunner is gone whole,
    and the next one is replaced when the last successor is ready."""
    revision = environment.current[name]
    present = environment.of(name)
    wanted = [view for view in present if view.wanted]
    new = [view for view in wanted if view.instance.revision == revision]
    old = [view for view in wanted if view.instance.revision != revision]
    for _ in range(replicas - len(present)):
        yield CreateInstance(
            environment=environment.name,
            service=name,
            revision=revision,
            reason=f"{len(new)} of {replicas} instances of revision {revision}",
        )
    surplus = max(0, len(wanted) - replicas)
    dispensable = _most_dispensable(old) + _most_dispensable(new)
    if surplus:
        yield from _dismiss(dispensable[:surplus], f"scaled to {replicas}")
    elif len(present) == len(wanted) == replicas and all(map(_is_done, new)):
        yield from _dismiss(dispensable[: min(1, len(old))], f"replaced by revision {revision}")


def _is_done(view: InstanceView) -> bool:
    return view.instance.state is State.READY or view.instance.exit_code == 0


def _most_dispensable(views: list[InstanceView]) -> list[InstanceView]:
    """Those first whose end costs least: not ready before ready, young before old."""
    return sorted(views, key=lambda v: (v.instance.state is State.READY, -v.instance.ordinal))


def _dismiss(views: tuple[InstanceView, ...] | list[InstanceView], why: str) -> Iterator[Action]:
    for view in views:
        if view.wanted and not view.busy:
            yield Note(
                instance=replace(view.instance, goal=Goal.REMOVE, reason=why),
                kind=EventKind.INSTANCE_STOPPING,
                reason=why,
            )
