"""Ends environments whose time is over, or whose holder has ended, whatever crashed on the way.

The holder is a process that asked for the environment (a test run, say). It is told from a later
process with its number by the time of its start; see `vmorch.effects.Processes`.
"""

from __future__ import annotations

from vmorch.effects import Processes
from vmorch.model.event import EventKind
from vmorch.reconciler.parts import Parts
from vmorch.store.protocol import EnvironmentRecord

HOLDER_POLL_SECONDS = 1.0
"""No event tells that a process which is not our child has ended."""


async def reap(parts: Parts) -> float | None:
    """Begin to remove what should no longer be, with its volumes: it was made for a while only.

    Returns:
        When to look again; None: nothing of what is left ends by itself.
    """
    now, wakes = parts.clock.now(), []
    for record in await parts.store.environments():
        if record.removing:
            continue
        if why := over(record, now, parts.processes):
            await parts.store.remove(record.name, volumes=True, now=now)
            await parts.store.add_event(
                EventKind.ENVIRONMENT_EXPIRED, why, now=now, environment=record.name
            )
        else:
            wakes += [now + HOLDER_POLL_SECONDS] if record.holder else []
            wakes += [record.expires_at] if record.expires_at else []
    return min(wakes, default=None)


def over(record: EnvironmentRecord, now: float, processes: Processes) -> str:
    """Why the environment should go, for people; empty when it should stay."""
    if record.expires_at is not None and now >= record.expires_at:
        return "Its time is over (--ttl); it is being removed."
    if record.holder is not None:
        number = record.holder.partition(":")[0]
        if processes.identity(int(number)) != record.holder:
            return f"Its holder, process {number}, has ended; it is being removed."
    return ""
