"""When a warm snapshot is made. Pure.

After the first instance of a revision is healthy, as then the service is known to come up; one at
a time, and only while nothing boots: what a user waits for comes first. One that a user asked for
waits for a boot slot only. Neither is begun before there is room for it on the host.
"""

from __future__ import annotations

from vmorch.model.instance import State
from vmorch.planner.actions import WarmUp
from vmorch.planner.capacity import Room
from vmorch.planner.snapshot import EnvironmentView, Snapshot


def warm_up(snapshot: Snapshot, free_slots: int, room: Room) -> WarmUp | None:
    """`free_slots` for boots and `room` are left when all other actions have begun."""
    if snapshot.warming or free_slots < 1:
        return None
    able = [e for e in snapshot.environments if e.network_ready and not e.removing]
    for environment in able:
        for name, revision in _fitting(environment, room):
            if (name, revision) in environment.wanted_warm:
                return _warm_up(environment, name, revision, "a user asked for it")
    if free_slots < snapshot.boots_at_once:
        return None
    for environment in able:
        for name, revision in _fitting(environment, room):
            if (name, revision) in environment.may_warm and _is_proven(environment, name, revision):
                why = f"the first instance of revision {revision} is ready"
                return _warm_up(environment, name, revision, why)
    return None


def _fitting(environment: EnvironmentView, room: Room) -> list[tuple[str, int]]:
    """The declared revisions for whose anonymous instance there is room."""
    return [
        (name, environment.current[name])
        for name, spec in environment.services.items()
        if not room.lacks_for_warming(spec)
    ]


def _warm_up(environment: EnvironmentView, service: str, revision: int, why: str) -> WarmUp:
    return WarmUp(environment=environment.name, service=service, revision=revision, reason=why)


def _is_proven(environment: EnvironmentView, service: str, revision: int) -> bool:
    return any(
        view.instance.state is State.READY and view.instance.revision == revision
        for view in environment.of(service)
    )
