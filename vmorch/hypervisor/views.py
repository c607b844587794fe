"""The guests' own view of their memory, asked for beside everything else.

It needs QEMU's monitor, and a QEMU that stands still answers never: the call that asks it hangs,
and with it the answers of all others. The next call passes over that guest, as it is busy.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import libvirt

from vmorch.errors import HypervisorError
from vmorch.hypervisor.connection import Connection
from vmorch.hypervisor.xml import BALLOON_PERIOD_SECONDS
from vmorch.model.names import Installation

FRESH_SECONDS = 6 * BALLOON_PERIOD_SECONDS
STUCK_SECONDS = 2 * BALLOON_PERIOD_SECONDS
"""A call that takes longer is not waited for with the next one."""
CALLS_AT_ONCE = 4
"""So many less one may hang; each holds one of libvirtd's workers."""

# A domain that somebody else is just working on is passed over.
_NOT_WAITING = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT


@dataclass(frozen=True, slots=True)
class View:
    """What one guest has said, and when it was asked."""

    at: float
    used_bytes: int
    usable_bytes: int


class MemoryViews:
    """`connection` is for these calls alone. Times are those of the running loop."""

    def __init__(self, connection: Connection, installation: Installation) -> None:
        self._connection = connection
        self._prefix = f"{installation.short}-"
        self._known: dict[int, View] = {}
        self._asked: set[asyncio.Task[None]] = set()
        self._asked_at = float("-inf")

    def ask(self, now: float) -> None:
        """No oftener than guests tell their balloon."""
        patience = STUCK_SECONDS if self._asked else BALLOON_PERIOD_SECONDS
        if len(self._asked) < CALLS_AT_ONCE and now - self._asked_at >= patience:
            self._asked_at = now
            task = asyncio.create_task(self._look(now), name="guests-memory")
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)

    def fresh(self, now: float) -> dict[int, View]:
        """By the life of a guest's process. What is older is forgotten."""
        self._known = {n: view for n, view in self._known.items() if now - view.at < FRESH_SECONDS}
        return dict(self._known)

    async def close(self) -> None:
        asked = list(self._asked)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await self._connection.close()

    async def _look(self, now: float) -> None:
        """Who was passed over keeps the view that it had; a late answer replaces no newer one."""
        with contextlib.suppress(HypervisorError):
            told = await self._connection.call("tell its guests' memory", self._balloons)
            for life, sizes in told.items():
                view = View(now, *sizes)
                self._known[life] = max(view, self._known.get(life, view), key=lambda v: v.at)

    def _balloons(self, connection: libvirt.virConnect) -> dict[int, tuple[int, int]]:
        ours = [d for d in connection.listAllDomains() if d.name().startswith(self._prefix)]
        if not ours:
            return {}
        rows = connection.domainListGetStats(ours, libvirt.VIR_DOMAIN_STATS_BALLOON, _NOT_WAITING)
        return dict(_sizes(rows))


def _sizes(rows: Iterable[tuple[Any, Mapping[str, Any]]]) -> Iterable[tuple[int, tuple[int, int]]]:
    """(used, usable) bytes of those guests that have told their balloon."""
    for domain, stats in rows:
        usable, available = stats.get("balloon.available"), stats.get("balloon.usable")
        if usable and available is not None:
            yield domain.ID(), ((usable - available) * 1024, usable * 1024)
