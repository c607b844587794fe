"""Ends environments whose time is over, or whose holder has ended, whatever crashed on the way.

The holder is a process that asked for the environment (a test run, say). It is told from a later
process with its number by the time of its start; see `vmorch.effects.Processes`.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from vmorch.effects import Processes
from vmorch.errors import VmorchError
from vmorch.model.event import EventKind
from vmorch.reconciler.parts import Parts
from vmorch.store.protocol import EnvironmentRecord

POLL_SECONDS = 1.0
"""No event tells that a process which is not our child has ended."""

log = structlog.get_logger("vmorch.reaper")


async def keep_reaping(parts: Parts, wake: Callable[[], None]) -> None:
    """Until cancelled. Apart from the reconciler's cycle, which is dear to run so often, and which
    may have other troubles."""
    while True:
        try:
            if await reap(parts):
                wake()
        except (VmorchError, OSError) as error:
            log.warning("reaping failed", error=str(error))
        await parts.clock.sleep(POLL_SECONDS)


async def reap(parts: Parts) -> list[str]:
    """Begin to remove what should no longer be, with its volumes: it was made for a while only.
    The names of these environments."""
    now, ending = parts.clock.now(), []
    for record in await parts.store.environments():
        why = "" if record.removing else over(record, now, parts.processes)
        if why:
            ending.append(record.name)
            await parts.store.remove(record.name, volumes=True, now=now)
            await parts.store.add_event(
                EventKind.ENVIRONMENT_EXPIRED, why, now=now, environment=record.name
            )
    return ending


def over(record: EnvironmentRecord, now: float, processes: Processes) -> str:
    """Why the environment should go, for people; empty when it should stay."""
    if record.expires_at is not None and now >= record.expires_at:
        return "Its time is over (--ttl); it is being removed."
    if record.holder is not None:
        number = record.holder.partition(":")[0]
        if processes.identity(int(number)) != record.holder:
            return f"Its holder, process {number}, has ended; it is being removed."
    return ""
