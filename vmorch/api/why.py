"""Why something is as it is: the planner's explanation, with the events behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from difflib import get_close_matches

from fastapi import APIRouter

from vmorch.api.services import ApiServices
from vmorch.errors import NotFound
from vmorch.model.event import Event
from vmorch.model.view.stream import EventView
from vmorch.model.view.why import StepAheadView, WhyView
from vmorch.planner.explain import (
    NOT_READY,
    Explanation,
    explain_gone,
    explain_instance,
    explain_service,
    explain_unseen,
)
from vmorch.planner.look import Look
from vmorch.store.protocol import Store

_SHOWN = 10
_READ = 200
"""Events of a service are looked through for its last orders, which its instances' may bury."""


def router(services: ApiServices) -> APIRouter:
    routes = APIRouter(prefix="/environments", tags=["why"])
    store = services.store

    @routes.get("/{name}/why")
    async def why(name: str, subject: str) -> WhyView:
        """Why an instance or a service is as it is, also one of which only events are left. What
        was seen last is told: nothing is looked at for this, so nothing can hold it up."""
        events = await store.last_events(name, subject, limit=_READ)
        known = await _known(store, name)
        look, now = services.last_look(), services.clock.now()
        # A plan over thousands of instances takes a while, and others want answers meanwhile.
        found = await asyncio.to_thread(_explained, look, name, subject, known, events, now)
        return _view(found, events[-_SHOWN:], now)

    return routes


async def _known(store: Store, name: str) -> dict[str, tuple[str, str]] | None:
    """State and reason of each service and instance that is remembered; None: there is no such
    environment."""
    record = next((r for r in await store.environments() if r.name == name), None)
    if record is None:
        return None
    instances = await store.instances(name)
    return dict.fromkeys(record.spec.services, (NOT_READY, "")) | {
        instance.name: (instance.state.value, instance.reason) for instance in instances
    }


def _explained(
    look: Look | None,
    name: str,
    subject: str,
    known: dict[str, tuple[str, str]] | None,
    events: Sequence[Event],
    now: float,
) -> Explanation:
    """Raises NotFound: there never was one."""
    seen = look.snapshot.environments if look and known is not None else ()
    environment = next((env for env in seen if env.name == name), None)
    if look and environment:
        for view in environment.instances:
            if view.instance.name == subject:
                return explain_instance(look, environment, view, events, now)
        if subject in environment.services or environment.of(subject):
            return explain_service(look, environment, subject, events, now)
    if known and subject in known:
        return explain_unseen(name, subject, *known[subject])
    if events:
        return explain_gone(name, subject, events, now)
    raise _unknown(name, subject, known)


def _unknown(name: str, subject: str, known: dict[str, tuple[str, str]] | None) -> NotFound:
    if known is None:
        return NotFound(
            f"There is no environment '{name}', and no event of a '{subject}' in one.",
            hint="'vmorch env ls' lists them.",
        )
    near = get_close_matches(subject, known, n=1)
    meant = f" Did you mean '{near[0]}'?" if near else ""
    return NotFound(
        f"Environment '{name}' has no instance or service '{subject}', nor had one.{meant}",
        hint=f"There are: {', '.join(known) or 'none'}.",
    )


def _view(found: Explanation, events: Sequence[Event], now: float) -> WhyView:
    return WhyView(
        environment=found.environment,
        subject=found.subject,
        state=found.state,
        summary=found.summary,
        waits=list(found.waits),
        notes=list(found.notes),
        steps=[StepAheadView(at=s.at, what=s.what, reason=s.reason) for s in found.steps],
        events=[EventView(**asdict(event)) for event in events],
        asked_at=now,
    )
