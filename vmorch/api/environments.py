"""Environments: wishes are written into the store, the reconciler does the rest."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from vmorch.api.admission import admit
from vmorch.api.services import ApiServices
from vmorch.api.views import environment_view
from vmorch.errors import NotFound, UsageError
from vmorch.model import codec
from vmorch.model.event import EventKind
from vmorch.model.spec import EnvironmentSpec
from vmorch.model.view.environment import EnvironmentView
from vmorch.store.protocol import EnvironmentRecord


class ApplyBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    spec: dict[str, Any]
    expected_version: int | None = None


class ScaleBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    replicas: dict[str, NonNegativeInt]


def router(services: ApiServices) -> APIRouter:
    routes = APIRouter(prefix="/environments", tags=["environments"])
    store = services.store

    @routes.put("/{name}")
    async def apply(name: str, body: ApplyBody) -> EnvironmentView:
        """Create or change. Images in the spec are digests, from a build or from ensure."""
        spec = codec.from_json(body.spec)
        if spec.name != name:
            raise UsageError(f"The spec is of '{spec.name}', the address says '{name}'.")
        await admit(spec, services.images)
        record = await _applied(services, spec, body.expected_version)
        services.wake()
        return environment_view(record, services.settings)

    @routes.get("")
    async def environments() -> list[EnvironmentView]:
        return [environment_view(r, services.settings) for r in await store.environments()]

    @routes.get("/{name}")
    async def environment(name: str) -> EnvironmentView:
        return environment_view(await store.environment(name), services.settings)

    @routes.delete("/{name}", status_code=202)
    async def remove(name: str, volumes: bool = False) -> EnvironmentView:
        """Begin to remove. It is gone when GET answers 404."""
        record = await store.remove(name, volumes=volumes, now=services.clock.now())
        services.wake()
        return environment_view(record, services.settings)

    @routes.post("/{name}/scale")
    async def scale(name: str, body: ScaleBody) -> EnvironmentView:
        record = await _scaled(services, name, body.replicas)
        services.wake()
        return environment_view(record, services.settings)

    return routes


async def _applied(
    services: ApiServices, spec: EnvironmentSpec, expected_version: int | None
) -> EnvironmentRecord:
    before = await _current(services, spec.name)
    now = services.clock.now()
    record = await services.store.apply(spec, now=now, expected_version=expected_version)
    await services.store.add_event(
        EventKind.ENVIRONMENT_APPLIED,
        f"Version {record.version} was applied, with {', '.join(spec.services) or 'no services'}.",
        now=now,
        environment=spec.name,
    )
    for service, number in record.current.items():
        if before.get(service) != number:
            await services.store.add_event(
                EventKind.REVISION_CREATED,
                f"Revision {number} is {record.spec.services[service].image[:19]}.",
                now=now,
                environment=spec.name,
                service=service,
            )
    return record


async def _current(services: ApiServices, name: str) -> dict[str, int]:
    try:
        return (await services.store.environment(name)).current
    except NotFound:
        return {}


async def _scaled(services: ApiServices, name: str, replicas: dict[str, int]) -> EnvironmentRecord:
    now = services.clock.now()
    record = await services.store.scale(name, replicas, now=now)
    for service, count in replicas.items():
        await services.store.add_event(
            EventKind.SERVICE_SCALED,
            f"Scaled to {count} by hand.",
            now=now,
            environment=name,
            service=service,
        )
    return record
