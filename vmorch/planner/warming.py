"""When a warm snapshot is made. Pure.

After the first instance of a revision is healthy, as then the service is known to come up; one at
a time, and only while nothing comes up: what a user waits for comes first. One that a user asked
for waits for a boot slot only. Neither is begun before there is room for it on the host.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from vmorch.model.instance import State
from vmorch.planner.actions import WarmUp
from vmorch.planner.capacity import Room
from vmorch.planner.slots import Slots
from vmorch.planner.snapshot import EnvironmentView, Snapshot


def warm_up(snapshot: Snapshot, slots: Slots, room: Room) -> WarmUp | None:
    """`slots` and `room` are what is left when all other actions have begun."""
    if snapshot.warming or slots.boots < 1:
        return None
    able = [e for e in snapshot.environments if e.network_ready and not e.removing]
    for environment in able:
        for name, revision in _fitting(environment, environment.wanted_warm, room):
            return _warm_up(environment, name, revision, "a user asked for it")
    if slots.coming_up:
        return None
    for environment in able:
        for name, revision in _fitting(environment, environment.may_warm, room):
            if _is_proven(environment, name, revision):
                why = f"the first instance of revision {revision} is ready"
                return _warm_up(environment, name, revision, why)
    return None


def _fitting(
    environment: EnvironmentView, among: Collection[tuple[str, int]], room: Room
) -> Iterator[tuple[str, int]]:
    """Of these, the declared revisions for whose anonymous instance there is room."""
    for name, spec in environment.services.items():
        subject = (name, environment.current[name])
        if subject in among and not room.lacks_for_warming(spec):
            yield subject


def _warm_up(environment: EnvironmentView, service: str, revision: int, why: str) -> WarmUp:
    return WarmUp(environment=environment.name, service=service, revision=revision, reason=why)


def _is_proven(environment: EnvironmentView, service: str, revision: int) -> bool:
    return any(
        view.instance.state is State.READY and view.instance.revision == revision
        for view in environment.of(service)
    )
