"""libvirt's events as hints, in words for people, handed to whoever listens."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import libvirt

from vmorch.hypervisor.host_memory import OomKills
from vmorch.hypervisor.protocol import GuestHint

_STOPPED = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "stopped: shutdown",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "destroyed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "stopped: crashed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED: "stopped: migrated",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: "stopped: saved",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "stopped: qemu died",
}
_QEMU_DIED = frozenset({"stopped: crashed", "stopped: qemu died"})
OUT_OF_MEMORY = "stopped: out of memory"
_SHUTDOWN = {
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED: "shutdown: finished",
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST: "shutdown: guest",
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST: "shutdown: host",
}
_SUSPENDED = {
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED_PAUSED: "suspended: paused",
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR: "suspended: disk error",
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG: "suspended: watchdog",
}
_LIFE_CYCLE: dict[int, tuple[str, dict[int, str]]] = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: ("defined", {}),
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: ("undefined", {}),
    libvirt.VIR_DOMAIN_EVENT_STARTED: ("started", {}),
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: ("suspended", _SUSPENDED),
    libvirt.VIR_DOMAIN_EVENT_RESUMED: ("resumed", {}),
    libvirt.VIR_DOMAIN_EVENT_STOPPED: ("stopped", _STOPPED),
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: ("shutdown", _SHUTDOWN),
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: ("suspended: by the guest", {}),
    libvirt.VIR_DOMAIN_EVENT_CRASHED: (
        "crashed",
        {libvirt.VIR_DOMAIN_EVENT_CRASHED_PANICKED: "crashed: panicked"},
    ),
}
_AGENT_CONNECTED = libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED


def life_cycle_words(event: int, detail: int) -> str:
    word, details = _LIFE_CYCLE.get(event, (f"event {event}", {}))
    return details.get(detail, word)


class Hints:
    """Takes events from libvirt's thread and gives them to any number of event loops."""

    def __init__(self, prefix: str, oom_kills: OomKills) -> None:
        self._prefix = prefix
        self._oom_kills = oom_kills
        self._lock = threading.Lock()
        self._queues: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[GuestHint]]] = []

    def register(self, connection: libvirt.virConnect) -> None:
        """Ask a new connection for its events. What happened before is unknown, hence a hint."""
        listeners = (
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_life_cycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, self._on_agent),
            (libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, self._on_disk_error),
        )
        for number, listener in listeners:
            connection.domainEventRegisterAny(None, number, listener, None)
        with contextlib.suppress(libvirt.libvirtError):  # not every driver can be closed on us
            connection.registerCloseCallback(self._on_close, None)
        self.publish(GuestHint(name="", detail="connected"))

    def publish(self, hint: GuestHint) -> None:
        """From any thread. A hint without a name says that anything may have changed."""
        if hint.name and not hint.name.startswith(self._prefix):
            return
        with self._lock:
            for loop, queue in self._queues:
                with contextlib.suppress(RuntimeError):  # that loop has ended
                    loop.call_soon_threadsafe(queue.put_nowait, hint)

    def listen(self) -> AsyncIterator[GuestHint]:
        """All hints from now on, not only from the first step of the iteration."""
        entry = asyncio.get_running_loop(), asyncio.Queue[GuestHint]()
        with self._lock:
            self._queues.append(entry)
        return self._drain(entry)

    async def _drain(
        self, entry: tuple[asyncio.AbstractEventLoop, asyncio.Queue[GuestHint]]
    ) -> AsyncIterator[GuestHint]:
        try:
            while True:
                yield await entry[1].get()
        finally:
            with self._lock:
                self._queues.remove(entry)

    def _on_life_cycle(
        self, _c: Any, domain: libvirt.virDomain, event: int, detail: int, _o: Any
    ) -> None:
        words = life_cycle_words(event, detail)
        if words in _QEMU_DIED and self._oom_kills.recent():
            words = OUT_OF_MEMORY
        self.publish(GuestHint(name=domain.name(), detail=words))

    def _on_agent(
        self, _c: Any, domain: libvirt.virDomain, state: int, _reason: int, _o: Any
    ) -> None:
        word = "connected" if state == _AGENT_CONNECTED else "disconnected"
        self.publish(GuestHint(name=domain.name(), detail=f"agent: {word}"))

    def _on_disk_error(
        self,
        _c: Any,
        domain: libvirt.virDomain,
        _path: str,
        device: str,
        _action: int,
        reason: str,
        _o: Any,
    ) -> None:
        detail = f"disk error: {device}: {reason or 'unknown'}"
        self.publish(GuestHint(name=domain.name(), detail=detail))

    def _on_close(self, _c: Any, _reason: int, _o: Any) -> None:
        self.publish(GuestHint(name="", detail="connection lost"))
