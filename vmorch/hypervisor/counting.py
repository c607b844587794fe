"""Counters of all our guests by one bulk call, which never waits for a guest.

The call asks libvirt only for what it knows without QEMU's monitor, and the kernel for what it has
at hand. What takes longer, the guests' own view of their memory and its weight, is asked for
beside, and the last answers are told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import libvirt

from vmorch.hypervisor.connection import Connection
from vmorch.hypervisor.procfs import GuestProcess
from vmorch.hypervisor.views import MemoryViews, View
from vmorch.hypervisor.weighing import Weighing
from vmorch.model.counters import GuestCounters, MemoryWeight
from vmorch.model.names import Installation

PID_FILES = Path("/run/libvirt/qemu")
"""Where libvirtd's QEMU driver keeps each domain's process number, as NAME.pid."""

# Neither asks QEMU itself.
_SEEN = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_INTERFACE


class Counting:
    """`views` is a connection for the calls that may hang."""

    def __init__(
        self,
        control: Connection,
        views: Connection,
        installation: Installation,
        *,
        pid_files: Path = PID_FILES,
    ) -> None:
        self._control = control
        self._prefix = f"{installation.short}-"
        self._pid_files = pid_files
        self._processes: dict[int, GuestProcess | None] = {}
        self._views = MemoryViews(views, installation)
        self._weighing = Weighing()

    async def count(self) -> dict[str, GuestCounters]:
        now = asyncio.get_running_loop().time()
        self._views.ask(now)
        views, weights = self._views.fresh(now), dict(self._weighing.weights)
        found = await self._control.call(
            "count what its guests use", lambda c: self._count(c, views, weights)
        )
        self._weighing.go_on({n: p for n, p in self._processes.items() if p is not None}, now)
        return found

    async def close(self) -> None:
        await self._weighing.close()
        await self._views.close()

    def _count(
        self,
        connection: libvirt.virConnect,
        views: Mapping[int, View],
        weights: Mapping[int, MemoryWeight],
    ) -> dict[str, GuestCounters]:
        rows = [
            (domain, stats)
            for domain, stats in connection.getAllDomainStats(_SEEN, 0)
            if domain.name().startswith(self._prefix)
        ]
        lives = {domain.ID(): domain.name() for domain, _ in rows}
        self._processes = {
            life: self._processes.get(life) or self._process(name) for life, name in lives.items()
        }
        found = {}
        for domain, stats in rows:
            life = domain.ID()
            found[domain.UUIDString()] = _counters(
                life, stats, self._processes[life], views.get(life), weights.get(life)
            )
        return found

    def _process(self, name: str) -> GuestProcess | None:
        try:
            return GuestProcess(int((self._pid_files / f"{name}.pid").read_text()))
        except (OSError, ValueError):
            return None


def _counters(
    life: int,
    stats: Mapping[str, Any],
    process: GuestProcess | None,
    view: View | None,
    weight: MemoryWeight | None,
) -> GuestCounters:
    read, written = process.storage_bytes() if process else (None, None)
    return GuestCounters(
        life=life,
        cpu_seconds=process.cpu_seconds() if process else None,
        throttled_seconds=process.throttled_seconds() if process else None,
        rss_bytes=process.rss_bytes() if process else None,
        weight=weight,
        used_bytes=view.used_bytes if view else None,
        usable_bytes=view.usable_bytes if view else None,
        read_bytes=read,
        written_bytes=written,
        received_bytes=stats.get("net.0.rx.bytes"),
        sent_bytes=stats.get("net.0.tx.bytes"),
    )
