"""Instances, as `vmorch ps` lists them."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from vmorch.api.services import ApiServices
from vmorch.api.views import instance_view, urls_of
from vmorch.errors import NotFound
from vmorch.model.instance import Instance, Revision
from vmorch.model.view.instance import InstanceView
from vmorch.store.protocol import Store


def router(services: ApiServices) -> APIRouter:
    routes = APIRouter(tags=["instances"])
    store = services.store

    @routes.get("/instances")
    async def instances(
        environment: str | None = None, service: str | None = None
    ) -> list[InstanceView]:
        if environment is not None:
            record = await store.environment(environment)
            if service is not None and service not in record.spec.services:
                raise no_service(environment, service, list(record.spec.services))
        rows = [
            row
            for row in await store.instances(environment)
            if service is None or row.service == service
        ]
        order = sorted(rows, key=lambda i: (i.environment, i.service, i.ordinal))
        return await shown(services, order)

    @routes.delete("/guests/unknown")
    async def give_up_unknown() -> list[str]:
        """End guests of this installation that its store does not know; their domains."""
        domains = await services.give_up_unknown()
        services.wake()
        return domains

    return routes


async def shown(services: ApiServices, instances: Sequence[Instance]) -> list[InstanceView]:
    """As `vmorch ps` does, in the order given."""
    store = services.store
    environments = {instance.environment for instance in instances}
    revisions = await revisions_of(store, environments)
    declared = {name: (await store.environment(name)).spec.services for name in environments}

    def urls(instance: Instance) -> list[str]:
        service = declared[instance.environment].get(instance.service)
        return urls_of(service, services.settings, services.is_presented)

    return [
        instance_view(row, revisions[_key(row)], store.installation, urls(row)) for row in instances
    ]


async def revisions_of(
    store: Store, environments: set[str]
) -> dict[tuple[str, str, int], Revision]:
    """Revisions of the environments by (environment, service, number)."""
    return {
        (revision.environment, revision.service, revision.number): revision
        for environment in environments
        for revision in await store.revisions(environment)
    }


def _key(instance: Instance) -> tuple[str, str, int]:
    return instance.environment, instance.service, instance.revision


def no_service(environment: str, service: str, known: list[str]) -> NotFound:
    return NotFound(
        f"Environment '{environment}' has no service '{service}'.",
        hint=f"Its services: {', '.join(known)}.",
    )
