"""Counters of all our guests by one bulk call, which never waits for a guest.

The call asks libvirt only for what it knows without QEMU's monitor. The guests' own view of their
memory does need the monitor, and a QEMU that stands still answers never: it is asked for beside,
no oftener than guests tell it to their balloon, and the last answer is used while it is fresh.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt

from vmorch.errors import HypervisorError
from vmorch.hypervisor.connection import Connection
from vmorch.hypervisor.procfs import GuestProcess
from vmorch.hypervisor.xml import BALLOON_PERIOD_SECONDS
from vmorch.model.counters import GuestCounters
from vmorch.model.names import Installation

FRESH_SECONDS = 6 * BALLOON_PERIOD_SECONDS
PID_FILES = Path("/run/libvirt/qemu")
"""Where libvirtd's QEMU driver keeps each domain's process number, as NAME.pid."""

# Neither asks QEMU itself.
_SEEN = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_INTERFACE
# A domain that somebody else is just working on is passed over.
_NOT_WAITING = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT


@dataclass(frozen=True, slots=True)
class _View:
    """A guest's own view of its memory, and when it was told."""

    at: float
    used_bytes: int
    usable_bytes: int


class Counting:
    """`views` is a connection for the calls that may hang: no more than one does at a time."""

    def __init__(
        self,
        control: Connection,
        views: Connection,
        installation: Installation,
        *,
        pid_files: Path = PID_FILES,
    ) -> None:
        self._control = control
        self._views = views
        self._prefix = f"{installation.short}-"
        self._pid_files = pid_files
        self._processes: dict[int, GuestProcess | None] = {}
        self._known: dict[str, _View] = {}
        self._asked: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")

    async def count(self, weigh: Collection[str]) -> dict[str, GuestCounters]:
        now = asyncio.get_running_loop().time()
        self._ask_views(now)
        known = {u: v for u, v in self._known.items() if now - v.at < FRESH_SECONDS}
        return await self._control.call(
            "count what its guests use", lambda c: self._count(c, known, weigh)
        )

    async def close(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
            await asyncio.gather(self._asked, return_exceptions=True)
        await self._views.close()

    def _ask_views(self, now: float) -> None:
        under_way = self._asked is not None and not self._asked.done()
        if not under_way and now - self._asked_at >= BALLOON_PERIOD_SECONDS:
            self._asked_at = now
            self._asked = asyncio.create_task(self._look(now), name="guests-memory")

    async def _look(self, now: float) -> None:
        with contextlib.suppress(HypervisorError):
            told = await self._views.call("tell its guests' memory", self._balloons)
            self._known = {uuid: _View(now, *sizes) for uuid, sizes in told.items()}

    def _balloons(self, connection: libvirt.virConnect) -> dict[str, tuple[int, int]]:
        ours = [d for d in connection.listAllDomains() if d.name().startswith(self._prefix)]
        if not ours:
            return {}
        rows = connection.domainListGetStats(ours, libvirt.VIR_DOMAIN_STATS_BALLOON, _NOT_WAITING)
        return dict(_sizes(rows))

    def _count(
        self, connection: libvirt.virConnect, known: Mapping[str, _View], weigh: Collection[str]
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
            uuid, life = domain.UUIDString(), domain.ID()
            found[uuid] = _counters(
                life, stats, self._processes[life], known.get(uuid), uuid in weigh
            )
        return found

    def _process(self, name: str) -> GuestProcess | None:
        try:
            return GuestProcess(int((self._pid_files / f"{name}.pid").read_text()))
        except (OSError, ValueError):
            return None


def _sizes(rows: Iterable[tuple[Any, Mapping[str, Any]]]) -> Iterable[tuple[str, tuple[int, int]]]:
    """(used, usable) bytes by uuid, of those guests that have told their balloon."""
    for domain, stats in rows:
        usable, available = stats.get("balloon.available"), stats.get("balloon.usable")
        if usable and available is not None:
            with contextlib.suppress(libvirt.libvirtError):
                yield domain.UUIDString(), ((usable - available) * 1024, usable * 1024)


def _counters(
    life: int,
    stats: Mapping[str, Any],
    process: GuestProcess | None,
    view: _View | None,
    weigh: bool,
) -> GuestCounters:
    read, written = process.storage_bytes() if process else (None, None)
    return GuestCounters(
        life=life,
        cpu_seconds=process.cpu_seconds() if process else None,
        throttled_seconds=process.throttled_seconds() if process else None,
        rss_bytes=process.rss_bytes() if process else None,
        weight=process.weight() if process and weigh else None,
        used_bytes=view.used_bytes if view else None,
        usable_bytes=view.usable_bytes if view else None,
        read_bytes=read,
        written_bytes=written,
        received_bytes=stats.get("net.0.rx.bytes"),
        sent_bytes=stats.get("net.0.tx.bytes"),
    )
