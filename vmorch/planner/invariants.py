"""What must hold of every plan; checked in each cycle, so that a bug of ours stops here.

- An instance gets at most one action in a plan, and none while one on it is under way: so there
  are never two guests for one name.
- For the sake of a rollout, ready instances never become fewer than `replicas`; with stop-first,
  than `replicas` less `parallelism`.
- A guest with a volume never starts while another instance has that volume.
- An environment goes only when none of its instances is left and the proxy has let go of it.
- A domain that no instance of ours ever had is never touched (the snapshot shows only ours).
- What is reserved for guests, those that the plan starts included, never exceeds the host's
  capacity; a host that has become too small for those that run gets no more.
- Every action has its reason.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmorch.errors import VmorchError
from vmorch.model.instance import Goal, State
from vmorch.model.rollout import UpdateOrder
from vmorch.planner.actions import (
    ABOUT_ONE_INSTANCE,
    Note,
    Plan,
    RemoveEnvironment,
    StartGuest,
    WakeGuest,
    WarmUp,
)
from vmorch.planner.capacity import holds_room, room_of, taken_by
from vmorch.planner.occupied import occupied
from vmorch.planner.rollout import course_of
from vmorch.planner.snapshot import EnvironmentView, Snapshot

Key = tuple[str, str, int]


def check(snapshot: Snapshot, result: Plan) -> None:
    """Raises VmorchError when a plan breaks an invariant."""
    for broken in violations(snapshot, result):
        raise VmorchError(broken)


def violations(snapshot: Snapshot, result: Plan) -> Iterator[str]:
    """What is broken, a sentence each."""
    touched = [a.instance.key for a in result.actions if isinstance(a, ABOUT_ONE_INSTANCE)]
    busy = {
        view.instance.key for env in snapshot.environments for view in env.instances if view.busy
    }
    if len(touched) != len(set(touched)):
        yield "The plan acts twice on one instance."
    if busy & set(touched):
        yield "The plan acts on an instance that is busy."
    for action in result.actions:
        if not action.reason:
            yield f"The plan has an action without a reason: {type(action).__name__}."
    yield from _overdrawn(snapshot, result)
    started = {a.instance.key for a in result.actions if isinstance(a, StartGuest)}
    dismissed = {
        action.instance.key
        for action in result.actions
        if isinstance(action, Note) and action.instance.goal is Goal.REMOVE
    }
    removed = {a.environment for a in result.actions if isinstance(a, RemoveEnvironment)}
    for environment in snapshot.environments:
        yield from _too_few_left(environment, dismissed)
        yield from _shared_volumes(environment, started)
        if environment.name in removed and (environment.instances or environment.in_proxy):
            yield f"The plan removes '{environment.name}', of which something is left."


def _overdrawn(snapshot: Snapshot, result: Plan) -> Iterator[str]:
    starts = [a for a in result.actions if isinstance(a, StartGuest | WakeGuest | WarmUp)]
    if not starts:
        return
    environments = {environment.name: environment for environment in snapshot.environments}
    started = {a.instance.key for a in starts if not isinstance(a, WarmUp)}
    new = [
        view.spec
        for environment in snapshot.environments
        for view in environment.instances
        if view.instance.key in started and not holds_room(view)
    ]
    warmed = [a for a in starts if isinstance(a, WarmUp)]
    new += [environments[a.environment].services[a.service] for a in warmed]
    host, used = snapshot.host, room_of(snapshot).used
    after = used.plus(taken_by(new, host.acceleration))
    for what, before, then, most in (
        ("memory", used.memory_bytes, after.memory_bytes, host.instance_memory_bytes),
        ("CPUs", used.millicpus, after.millicpus, host.millicpus),
    ):
        if most < then != before:
            yield f"The plan starts guests for which the host has not the {what}."


def _too_few_left(environment: EnvironmentView, dismissed: set[Key]) -> Iterator[str]:
    """Because of us: an instance that was ready, or has done its work, and is dismissed."""
    if environment.removing or not dismissed:
        return
    newly: dict[str, int] = {}
    ready: dict[str, int] = {}
    for view in environment.instances:
        instance = view.instance
        if view.wanted and (instance.state is State.READY or instance.exit_code == 0):
            ready[instance.service] = ready.get(instance.service, 0) + 1
            if instance.key in dismissed:
                newly[instance.service] = newly.get(instance.service, 0) + 1
    for service, count in newly.items():
        if service not in environment.services:
            continue
        left = ready[service] - count
        if left < _least_ready(environment, service):
            yield f"The plan leaves {left} instances of '{service}' ready."


def _least_ready(environment: EnvironmentView, service: str) -> int:
    spec, course = environment.services[service], course_of(environment, service)
    order = spec.update_order(rollback=course.rollout.rollback)
    unavailable = course.parallelism if order is UpdateOrder.STOP_FIRST else 0
    return max(0, spec.replicas - unavailable)


def _shared_volumes(environment: EnvironmentView, started: set[Key]) -> Iterator[str]:
    for view in environment.instances:
        if started and view.instance.key in started and occupied(environment, view, started):
            yield f"The plan starts {view.instance.name} while another one has its volume."
