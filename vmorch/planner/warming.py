"""When a warm snapshot is made. Pure.

After the first instance of a revision is healthy, as then the service is known to come up; one at
a time, and only while nothing boots: what a user waits for comes first.
"""

from __future__ import annotations

from vmorch.model.instance import State
from vmorch.planner.actions import WarmUp
from vmorch.planner.lifecycle import is_booting
from vmorch.planner.snapshot import EnvironmentView, Snapshot


def warm_up(snapshot: Snapshot) -> WarmUp | None:
    if snapshot.warming or any(
        is_booting(view) for env in snapshot.environments for view in env.instances
    ):
        return None
    for environment in snapshot.environments:
        if environment.removing or not environment.network_ready:
            continue
        for name in environment.services:
            revision = environment.current[name]
            if (name, revision) in environment.may_warm and _is_proven(environment, name, revision):
                return WarmUp(
                    environment=environment.name,
                    service=name,
                    revision=revision,
                    reason=f"the first instance of revision {revision} is ready",
                )
    return None


def _is_proven(environment: EnvironmentView, service: str, revision: int) -> bool:
    return any(
        view.instance.state is State.READY and view.instance.revision == revision
        for view in environment.of(service)
    )
