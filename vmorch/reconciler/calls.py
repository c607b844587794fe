"""Answers calls for services that sleep: somebody waits in the proxy, so an instance is needed.

Only the desired count is changed; the planner wakes who is asleep.
"""

from __future__ import annotations

import structlog

from vmorch.errors import NotFound, Refused, VmorchError
from vmorch.model.event import EventKind
from vmorch.model.names import backend_owner
from vmorch.reconciler.parts import Parts

log = structlog.get_logger("vmorch.calls")


async def answer(parts: Parts, backend: str) -> None:
    """Of one call, which may come again and again, and late."""
    owner = backend_owner(backend)
    if owner is None:
        return
    try:
        await raise_from_zero(parts, *owner, "as somebody asks for it")
    except VmorchError as error:
        log.warning("call not answered", backend=backend, error=error.message)


async def raise_from_zero(parts: Parts, environment: str, service: str, why: str) -> None:
    """Nothing to do where it is awake, or has gone meanwhile."""
    now = parts.clock.now()
    try:
        spec = (await parts.store.environment(environment)).spec.services[service]
        if not spec.sleeps_when_idle or spec.replicas > 0:
            return
        await parts.store.scale(environment, {service: 1}, now=now)
    except (KeyError, NotFound, Refused):
        return
    await parts.faults.at("call:scaled")
    await parts.store.add_event(
        EventKind.SERVICE_SCALED,
        f"Scaled from 0 to 1 {why}.",
        now=now,
        environment=environment,
        service=service,
    )
