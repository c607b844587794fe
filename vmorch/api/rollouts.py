"""Rollouts: how one goes, the former ones, and what a user says about the one that is under way.

What a user says is written into the store at once; the planner acts on it at its next look.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from vmorch.api.instances import no_service
from vmorch.api.preview import rollback_steps
from vmorch.api.services import ApiServices
from vmorch.errors import NotFound, Refused
from vmorch.model.event import EventKind
from vmorch.model.instance import Revision
from vmorch.model.names import instance_name
from vmorch.model.rollout import Phase, Rollout
from vmorch.model.view.rollout import DifferenceView, RolloutView
from vmorch.model.view.step import StepView
from vmorch.planner.rollout_words import progress
from vmorch.store.protocol import EnvironmentRecord

PATH = "/environments/{name}/services/{service}/rollout"
PAUSED_BY_USER = "paused by the user"
UNDONE_BY_USER = "undone by the user"


class UndoBody(BaseModel):
    """`to` is a revision; without it, the last one that was rolled out whole before."""

    model_config = ConfigDict(extra="forbid")
    to: int | None = None


def router(services: ApiServices) -> APIRouter:
    routes = APIRouter(tags=["rollouts"])
    store = services.store

    @routes.get(PATH)
    async def status(name: str, service: str) -> RolloutView:
        """The last rollout."""
        record = await _record(services, name, service)
        rollout = await store.latest_rollout(name, service)
        return await _view(services, record, rollout, with_lines=True)

    @routes.get(f"{PATH}/history")
    async def history(name: str, service: str) -> list[RolloutView]:
        """The last rollouts, oldest first."""
        record = await _record(services, name, service)
        return [await _view(services, record, one) for one in await store.rollouts(name, service)]

    @routes.get(f"{PATH}/diff")
    async def diff(
        name: str, service: str, old: int | None = None, new: int | None = None
    ) -> list[DifferenceView]:
        """In what two revisions differ; without numbers, the current one and the one before it."""
        record = await _record(services, name, service)
        current = new or record.current[service]
        before = old or await _before(services, name, service, current)
        specs = [await _revision(services, name, service, number) for number in (before, current)]
        return _differences(*specs)

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
    """The revision that an undo leads to. Raises Refused, NotFound (no such revision, or its image
    is gone)."""
    target = to or last.previous or await _good_before(services, last)
    if target is None:
        raise Refused(
            f"There is no revision of '{last.service}' to go back to: none was rolled out whole.",
            hint="Name one with --to: 'vmorch rollout history' lists them.",
        )
    if target == record.current[last.service]:
        raise Refused(
            f"'{last.service}' is at revision {target} already.", hint=_look(last.service)
        )
    revision = await _revision(services, record.name, last.service, target)
    await services.images.manifest(revision.spec.image)
    return target


async def _good_before(services: ApiServices, last: Rollout) -> int | None:
    former = await services.store.rollouts(last.environment, last.service)
    good = [
        rollout.revision
        for rollout in former
        if rollout.phase is Phase.COMPLETED and rollout.revision != last.revision
    ]
    return good[-1] if good else None


async def _revision(services: ApiServices, name: str, service: str, number: int) -> Revision:
    numbers = []
    for revision in await services.store.revisions(name):
        if revision.service == service:
            numbers.append(revision.number)
            if revision.number == number:
                return revision
    raise NotFound(
        f"'{service}' has no revision {number}.",
        hint=f"It has {', '.join(map(str, numbers)) or 'none'}.",
    )


async def _before(services: ApiServices, name: str, service: str, number: int) -> int:
    numbers = [r.number for r in await services.store.revisions(name) if r.service == service]
    earlier = [n for n in numbers if n < number]
    if not earlier:
        raise NotFound(
            f"Revision {number} of '{service}' is its first.", hint="There is none to compare with."
        )
    return max(earlier)


def _differences(old: Revision, new: Revision) -> list[DifferenceView]:
    before, after = asdict(old.spec), asdict(new.spec)
    return [
        DifferenceView(key=key, old=_text(before[key]), new=_text(after[key]))
        for key in after
        if before[key] != after[key]
    ]


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


async def _view(
    services: ApiServices,
    record: EnvironmentRecord,
    rollout: Rollout,
    *,
    with_lines: bool = False,
) -> RolloutView:
    spec = record.spec.services[rollout.service]
    revision = await _revision(services, record.name, rollout.service, rollout.revision)
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
        replicas=spec.replicas,
        passed=_names(rollout.service, rollout.passed),
        failed=_names(rollout.service, rollout.failed),
        started_at=rollout.started_at,
        ended_at=rollout.ended_at,
        lines=_lines(services, rollout, record) if with_lines else [],
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
