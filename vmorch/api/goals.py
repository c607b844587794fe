"""Stop, start, sleep, pause and go on: another goal for instances, which the reconciler reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from vmorch.api.instances import no_service, shown
from vmorch.api.scaling import wake_up
from vmorch.api.services import ApiServices
from vmorch.errors import NotFound, Refused
from vmorch.model.instance import Goal, Instance
from vmorch.model.view.instance import InstanceView
from vmorch.store.protocol import EnvironmentRecord


class GoalBody(BaseModel):
    """`names` are services and instances; none means all of the environment."""

    model_config = ConfigDict(extra="forbid")
    goal: Literal["run", "stop", "sleep", "pause"]
    names: list[str] = []


def router(services: ApiServices) -> APIRouter:
    routes = APIRouter(prefix="/environments", tags=["instances"])
    store = services.store

    @routes.post("/{name}/goal")
    async def set_goal(name: str, body: GoalBody) -> list[InstanceView]:
        """The instances that the goal is for, as they are now."""
        record = await store.environment(name)
        if record.removing:
            raise Refused(
                f"Environment '{name}' is being removed.", hint="'vmorch up' makes it anew."
            )
        instances = await store.instances(name)
        of_services, of_instances = _chosen(record, instances, body.names)
        if body.goal == "run":
            named = of_services | {i.service for i in instances if i.name in of_instances}
            await wake_up(services, record, named or record.spec.services)
        changed = await store.set_goal(
            name, Goal(body.goal), services=of_services, instances=of_instances
        )
        services.wake()
        return await shown(services, changed)

    return routes


def _chosen(
    record: EnvironmentRecord, instances: Sequence[Instance], names: list[str]
) -> tuple[set[str], set[str]]:
    """`names` told apart: services, instances. Raises NotFound."""
    known = {instance.name for instance in instances}
    services = {name for name in names if name in record.spec.services}
    for name in names:
        if name in services or name in known:
            continue
        if not known:
            raise no_service(record.name, name, list(record.spec.services))
        raise NotFound(
            f"Environment '{record.name}' has no instance or service '{name}'.",
            hint=f"Its instances: {', '.join(sorted(known))}.",
        )
    return services, set(names) - services
