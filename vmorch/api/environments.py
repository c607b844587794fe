"""Environments: wishes are written into the store, the reconciler does the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat

from vmorch.api.admission import admit, refuse_too_large
from vmorch.api.preview import merged, steps_to_apply, steps_to_remove, steps_to_scale
from vmorch.api.scaling import refuse_growth, scale_by_hand, tell_scaled
from vmorch.api.services import ApiServices
from vmorch.api.views import environment_view
from vmorch.errors import NotFound, Refused, UsageError
from vmorch.model import codec
from vmorch.model.counts import at_least, counted
from vmorch.model.event import EventKind
from vmorch.model.instance import Goal
from vmorch.model.rollout import Rollout
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.model.view.environment import EnvironmentView
from vmorch.model.view.step import StepView
from vmorch.planner.rollout_words import way
from vmorch.store.exclusive import refuse_conflicts
from vmorch.store.protocol import EnvironmentRecord


class ApplyBody(BaseModel):
    """`partial`: the services in `spec` are created or changed, the others stay as they are.
    Services in `by_hand` are to have as many instances as `spec` says, also if they scale by
    themselves. `canary` is the percentage of requests that new revisions get until they are
    promoted. After
    `ttl_seconds`, or when the process `holder` (its `vmorch.effects.Processes` identity)
    ends, the environment is removed with its volumes."""

    model_config = ConfigDict(extra="forbid")
    spec: dict[str, Any]
    expected_version: int | None = None
    partial: bool = False
    by_hand: list[str] = []
    ttl_seconds: PositiveFloat | None = None
    canary: Annotated[int, Field(ge=1, le=99)] | None = None
    holder: Annotated[str, Field(pattern=r"^[1-9][0-9]*:[0-9]+:[0-9a-f]+$")] | None = None


class PreviewBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    spec: dict[str, Any]
    partial: bool = False
    by_hand: list[str] = []


class ScaleBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    replicas: dict[str, NonNegativeInt]


def router(services: ApiServices) -> APIRouter:
    routes = APIRouter(prefix="/environments", tags=["environments"])
    store = services.store

    def shown(record: EnvironmentRecord) -> EnvironmentView:
        return environment_view(record, services.settings, services.is_presented)

    @routes.put("/{name}")
    async def apply(name: str, body: ApplyBody) -> EnvironmentView:
        """Create or change, and start what was stopped, asleep or paused. Images in the spec are
        digests, from a build or from ensure."""
        spec = _spec(name, body.spec)
        await admit(spec, services.images)
        whole = _whole(spec, await _found(services, name), body, services.clock.now())
        refuse_too_large(at_least(whole, by_hand=body.by_hand), services.host.view())
        record = await _applied(services, spec, body)
        await store.set_goal(name, Goal.RUN, services=spec.services)
        services.wake()
        return shown(record)

    @routes.post("/{name}/preview")
    async def preview(name: str, body: PreviewBody) -> list[StepView]:
        """What `apply` would do; nothing is changed. Images in the spec need not be there yet."""
        spec = _spec(name, body.spec)
        record = await _found(services, name)
        whole = _whole(spec, record, body, services.clock.now())
        others = [r for r in await store.environments() if r.name != name]
        settings = services.settings
        refuse_conflicts(whole, others, settings.publish_address, settings.route_endpoints)
        _refuse_leaving(record)
        refuse_too_large(at_least(whole, by_hand=body.by_hand), services.host.view())
        volumes = {volume.name for volume in await store.volumes(name) if not volume.removing}
        instances = await store.instances(name) if record else ()
        rollouts = await store.latest_rollouts(name)
        return steps_to_apply(whole, record, instances, volumes=volumes, rollouts=rollouts)

    @routes.get("/{name}/removal")
    async def removal(name: str, volumes: bool = False) -> list[StepView]:
        """What `remove` would do; nothing is changed."""
        record = await store.environment(name)
        return steps_to_remove(record, await store.instances(name), volumes=volumes)

    @routes.post("/{name}/scale/preview")
    async def preview_scale(name: str, body: ScaleBody) -> list[StepView]:
        """What `scale` would do; nothing is changed."""
        record = await store.environment(name)
        _refuse_leaving(record)
        refuse_growth(services, record.spec, body.replicas)
        rollouts = await store.latest_rollouts(name)
        instances, now = await store.instances(name), services.clock.now()
        return steps_to_scale(record, instances, body.replicas, rollouts, now=now)

    @routes.get("")
    async def environments() -> list[EnvironmentView]:
        return [shown(r) for r in await store.environments()]

    @routes.get("/{name}")
    async def environment(name: str) -> EnvironmentView:
        return shown(await store.environment(name))

    @routes.delete("/{name}", status_code=202)
    async def remove(name: str, volumes: bool = False) -> EnvironmentView:
        """Begin to remove. It is gone when GET answers 404."""
        record = await store.remove(name, volumes=volumes, now=services.clock.now())
        services.wake()
        return shown(record)

    @routes.delete("/{name}/volumes", status_code=204)
    async def remove_volumes(name: str) -> None:
        """Those that an environment left when it was removed."""
        if any(record.name == name for record in await store.environments()):
            raise Refused(
                f"The environment '{name}' still uses its volumes.",
                hint="'vmorch down -v' removes both.",
            )
        await store.remove_volumes(name)
        services.wake()

    @routes.post("/{name}/scale")
    async def scale(name: str, body: ScaleBody) -> EnvironmentView:
        record = await scale_by_hand(services, name, body.replicas)
        services.wake()
        return shown(record)

    return routes


def _spec(name: str, document: dict[str, Any]) -> EnvironmentSpec:
    """Raises InvalidSpec, UsageError (it is of another environment)."""
    spec = codec.from_json(document)
    if spec.name != name:
        raise UsageError(f"The spec is of '{spec.name}', the address says '{name}'.")
    return spec


def _refuse_leaving(record: EnvironmentRecord | None) -> None:
    """As the store does with whoever would change it."""
    if record is not None and record.removing:
        raise Refused(
            f"Environment '{record.name}' is being removed.",
            hint="Wait until 'vmorch down' has ended, then try again.",
        )


def _whole(
    spec: EnvironmentSpec,
    record: EnvironmentRecord | None,
    body: ApplyBody | PreviewBody,
    now: float,
) -> EnvironmentSpec:
    """What the environment will be. Raises Refused (an order is not within a service's bounds)."""
    whole = merged(spec, record) if body.partial else spec
    return counted(whole, record.spec if record else None, now=now, by_hand=body.by_hand)


async def _applied(
    services: ApiServices, spec: EnvironmentSpec, body: ApplyBody
) -> EnvironmentRecord:
    old = await _found(services, spec.name)
    before = old.current if old else {}
    expected_version = body.expected_version
    if body.partial:
        spec = merged(spec, old)
        # What is merged must be what was looked at.
        expected_version = expected_version or (old.version if old else 0)
    now = services.clock.now()
    record = await services.store.apply(
        spec,
        now=now,
        expected_version=expected_version,
        expires_at=now + body.ttl_seconds if body.ttl_seconds else None,
        holder=body.holder,
        canary=body.canary,
        by_hand=body.by_hand,
    )
    await services.store.add_event(
        EventKind.ENVIRONMENT_APPLIED,
        f"Version {record.version} was applied, with {', '.join(spec.services) or 'no services'}.",
        now=now,
        environment=spec.name,
    )
    await _tell_revisions(services, before, record, now)
    if old is not None:
        await tell_scaled(services, old.spec, record, "by 'up'")
    return record


async def _tell_revisions(
    services: ApiServices, before: Mapping[str, int], record: EnvironmentRecord, now: float
) -> None:
    """An event for each service that has another revision now, and one for how it is rolled out
    where it had one `before`."""
    changed = {name: n for name, n in record.current.items() if before.get(name) != n}
    rollouts = await services.store.latest_rollouts(record.name)
    for name, number in changed.items():
        spec = record.spec.services[name]
        created = f"Revision {number} is {spec.image[:19]}."
        told = [(EventKind.REVISION_CREATED, created)]
        if name in before:
            told.append((EventKind.ROLLOUT_BEGUN, _begun(rollouts[name], spec)))
        for kind, message in told:
            await services.store.add_event(
                kind, message, now=now, environment=record.name, service=name
            )


def _begun(rollout: Rollout, spec: ServiceSpec) -> str:
    share = f" with {rollout.canary} % of the requests" if rollout.canary else ""
    return f"To revision {rollout.revision}{share}: {way(spec)}."


async def _found(services: ApiServices, name: str) -> EnvironmentRecord | None:
    try:
        return await services.store.environment(name)
    except NotFound:
        return None
