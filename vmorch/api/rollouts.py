"""Rollouts: how one goes, the former ones, and what a user says about the one that is under way.

What a user says is written into the store at once; the planner acts on it at its next look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from vmorch.api.instances import no_service
from vmorch.api.preview import rollback_steps
from vmorch.api.revisions import (
    differences,
    find_revision,
    refuse_without_image,
    revision_before,
)
from vmorch.api.services import ApiServices
from vmorch.errors import Refused
from vmorch.model.event import EventKind
from vmorch.model.names import instance_name
from vmorch.model.rollout import Phase, Rollout
from vmorch.model.view.rollout import DifferenceView, RolloutInstanceView, RolloutView
from vmorch.model.view.step import StepView
from vmorch.planner.rollout_words import progress
from vmorch.store.protocol import EnvironmentRecord

PATH = "/environments/{name}/services/{service}/rollout"
PAUSED_BY_USER = "paused by the user"
UNDONE_BY_USER = "undone by the user"

Number = Annotated[int, Query(ge=1)]
"""Of a revision."""


class UndoBody(BaseModel):
    """`to` is a revision; without it, the last one that was rolled out whole before."""

    model_config = ConfigDict(extra="forbid")
    to: Number | None = None


def router(services: ApiServices) -> APIRouter:
    routes = APIRouter(tags=["rollouts"])
    store = services.store

    @routes.get("/environments/{name}/rollouts")
    async def rollouts(name: str) -> list[RolloutView]:
        """The last rollout of each service."""
        record = await store.environment(name)
        latest = await store.latest_rollouts(name)
        return [
            await _status(services, record, latest[service])
            for service in record.spec.services
            if service in latest
        ]

    @routes.get(PATH)
    async def status(name: str, service: str) -> RolloutView:
        """The last rollout."""
        record = await _record(services, name, service)
        return await _status(services, record, await store.latest_rollout(name, service))

    @routes.get(f"{PATH}/history")
    async def history(name: str, service: str) -> list[RolloutView]:
        """The last rollouts, oldest first."""
        record = await _record(services, name, service)
        return [await _view(services, record, one) for one in await store.rollouts(name, service)]

    @routes.get(f"{PATH}/diff")
    async def diff(
        name: str, service: str, old: Number | None = None, new: Number | None = None
    ) -> list[DifferenceView]:
        """In what two revisions differ; without numbers, the current one and the one before it."""
        record = await _record(services, name, service)
        current = new or record.current[service]
        before = old or await revision_before(services, name, service, current)
        specs = [
            await find_revision(services, name, service, number) for number in (before, current)
        ]
        return differences(*specs)

    @routes.post(f"{PATH}/pause")
    async def pause(name: str, service: str) -> RolloutView:
        """Replace no further instance."""
        was = await _last(services, name, service)
        if was.phase is not Phase.RUNNING:
            raise Refused(f"The rollout of '{service}' is {was.phase}.", hint=_look(service))
        paused = replace(was, phase=Phase.PAUSED, reason=PAUSED_BY_USER)
        return await _put(services, paused, was, EventKind.ROLLOUT_PAUSED, PAUSED_BY_USER)

    @routes.post(f"{PATH}/resume")
    async def resume(name: str, service: str) -> RolloutView:
        """Go on with a paused rollout. What has failed so far is borne."""
        was = await _last(services, name, service)
        if was.phase is not Phase.PAUSED:
            raise Refused(
                f"The rollout of '{service}' is {was.phase}, not paused.", hint=_look(service)
            )
        resumed = was.resumed()
        return await _put(services, resumed, was, EventKind.ROLLOUT_RESUMED, resumed.reason)

    @routes.post(f"{PATH}/promote")
    async def promote(name: str, service: str) -> RolloutView:
        """Roll the revision of the canary out."""
        was = await _last(services, name, service)
        if not was.is_open or was.canary is None:
            raise Refused(
                f"'{service}' has no canary.",
                hint="'vmorch up --canary 10%' begins a rollout with one.",
            )
        why = f"promoted from {was.canary} % of the requests by the user"
        promoted = replace(was, canary=None, reason=why)
        return await _put(services, promoted, was, EventKind.ROLLOUT_PROMOTED, why)

    @routes.post(f"{PATH}/undo")
    async def undo(name: str, service: str, body: UndoBody) -> RolloutView:
        """Back to an earlier revision."""
        record = await _record(services, name, service)
        was = await store.latest_rollout(name, service)
        to = await _way_back(services, record, was, body.to)
        now = services.clock.now()
        ended = was
        if was.is_open:
            ended = replace(was, phase=Phase.SUPERSEDED, reason=UNDONE_BY_USER, ended_at=now)
        begun = await store.roll_back(ended, to, was=was, reason=UNDONE_BY_USER, now=now)
        await _tell(services, begun, EventKind.ROLLED_BACK, f"back to revision {to}: undone")
        return await _view(services, await _record(services, name, service), begun)

    @routes.post(f"{PATH}/undo/preview")
    async def preview(name: str, service: str, body: UndoBody) -> list[StepView]:
        """What `undo` would do; nothing is changed."""
        record = await _record(services, name, service)
        was = await store.latest_rollout(name, service)
        to = await _way_back(services, record, was, body.to)
        instances = [i for i in await store.instances(name) if i.service == service]
        return rollback_steps(record.spec.services[service], instances, to)

    return routes


async def _record(services: ApiServices, name: str, service: str) -> EnvironmentRecord:
    record = await services.store.environment(name)
    if service not in record.spec.services:
        raise no_service(name, service, list(record.spec.services))
    return record


async def _last(services: ApiServices, name: str, service: str) -> Rollout:
    await _record(services, name, service)
    return await services.store.latest_rollout(name, service)


async def _put(
    services: ApiServices, rollout: Rollout, was: Rollout, kind: EventKind, message: str
) -> RolloutView:
    record = await _record(services, rollout.environment, rollout.service)
    await services.store.put_rollout(rollout, was=was)
    await _tell(services, rollout, kind, message)
    return await _view(services, record, rollout)


async def _tell(services: ApiServices, rollout: Rollout, kind: EventKind, message: str) -> None:
    await services.store.add_event(
        kind,
        message,
        now=services.clock.now(),
        environment=rollout.environment,
        service=rollout.service,
    )
    services.wake()


async def _way_back(
    services: ApiServices, record: EnvironmentRecord, last: Rollout, to: int | None
) -> int:
    """The revision that an undo leads to. Raises Refused (there is none, or it is the current one,
    or its image is gone), NotFound (no such revision)."""
    target = to or last.previous or await _good_before(services, last)
    if target is None:
        raise Refused(
            f"'{last.service}' has nothing to go back to: no other revision was rolled out whole.",
            hint="Name one with --to: 'vmorch rollout history' lists them.",
        )
    if target == record.current[last.service]:
        raise Refused(
            f"'{last.service}' is at revision {target} already.", hint=_look(last.service)
        )
    revision = await find_revision(services, record.name, last.service, target)
    await refuse_without_image(services, revision)
    return target


async def _good_before(services: ApiServices, last: Rollout) -> int | None:
    former = await services.store.rollouts(last.environment, last.service)
    good = [
        rollout.revision
        for rollout in former
        if rollout.phase is Phase.COMPLETED and rollout.revision != last.revision
    ]
    return good[-1] if good else None


async def _view(services: ApiServices, record: EnvironmentRecord, rollout: Rollout) -> RolloutView:
    replicas = record.spec.services[rollout.service].kept_replicas
    revision = await find_revision(services, record.name, rollout.service, rollout.revision)
    return RolloutView(
        environment=rollout.environment,
        service=rollout.service,
        number=rollout.number,
        revision=rollout.revision,
        previous=rollout.previous,
        image=revision.spec.image,
        phase=rollout.phase.value,
        rollback=rollout.rollback,
        reason=rollout.reason,
        canary=rollout.canary,
        replicas=replicas,
        needed=rollout.canaries(replicas) or replicas,
        passed=_names(rollout.service, rollout.passed),
        failed=_names(rollout.service, rollout.failed),
        started_at=rollout.started_at,
        ended_at=rollout.ended_at,
    )


async def _status(
    services: ApiServices, record: EnvironmentRecord, rollout: Rollout
) -> RolloutView:
    """With how far it has come, and each instance of its service."""
    instances = await services.store.instances(record.name)
    mine = [i for i in instances if i.service == rollout.service]
    return replace(
        await _view(services, record, rollout),
        lines=_lines(services, rollout, record),
        instances=[
            RolloutInstanceView(
                instance=i.name,
                revision=i.revision,
                state=i.state.value,
                passed=i.ordinal in rollout.passed,
            )
            for i in sorted(mine, key=lambda i: i.ordinal)
        ],
    )


def _names(service: str, ordinals: Sequence[int]) -> list[str]:
    return [instance_name(service, ordinal) for ordinal in ordinals]


def _lines(services: ApiServices, rollout: Rollout, record: EnvironmentRecord) -> list[str]:
    look = services.last_look()
    seen = [e for e in look.snapshot.environments if e.name == record.name] if look else []
    views = seen[0].of(rollout.service) if seen else ()
    spec = record.spec.services[rollout.service]
    return list(progress(rollout, spec, views, services.clock.now()))


def _look(service: str) -> str:
    return f"'vmorch rollout status {service}' shows how it stands."
