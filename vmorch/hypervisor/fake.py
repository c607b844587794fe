"""A hypervisor in memory, for the simulation and for tests of what stands on the protocol.

Guests "boot": their agent answers `boot_seconds` after the start, by the given clock. Faults
are injected by the tests: `fail`, `hang`, `kill`, `panic`, `vanish`, `agent_silent`.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vmorch.effects import Clock, Faults, NoFaults
from vmorch.errors import GuestError, HypervisorError
from vmorch.hypervisor.protocol import (
    GuestConfig,
    GuestHint,
    GuestLimits,
    GuestState,
    ObservedGuest,
)
from vmorch.model.counters import GuestCounters, MemoryWeight
from vmorch.model.guest import Acceleration, AccelerationChoice

SAVED = b"a guest of the fake hypervisor"
"""What its saved states begin with; a number follows."""

# (guest, command, arguments) -> what the agent returns; may raise GuestError.
AgentAnswer = Callable[["FakeGuest", str, dict[str, Any]], Any]


@dataclass(slots=True)
class FakeGuest:
    """A guest as a test sees it. `cpus` is the cap now; `boots_at` when its agent answers;
    `linked` whether its NIC is connected."""

    config: GuestConfig
    cpus: float
    boots_at: float
    state: GuestState = GuestState.RUNNING
    agent_silent: bool = False
    hung: bool = False
    shutdown_asked: bool = False
    cpu_seconds: float = 0.0
    sent_packets: int = 0
    linked: bool = True


@dataclass(slots=True)
class _Saved:
    """`outlived`: the guest has run since, so that its disk is another by now."""

    guest: FakeGuest
    outlived: bool = False


@dataclass(slots=True)
class _Faults:
    failing: Counter[str] = field(default_factory=Counter)
    hanging: Counter[str] = field(default_factory=Counter)


def _no_answer(_guest: FakeGuest, command: str, _arguments: dict[str, Any]) -> Any:
    if command == "guest-ping":
        return {}
    raise GuestError(f"The fake guest knows no {command}.")


class FakeHypervisor:
    """`shutdown_seconds` is how long a guest takes to power off when asked; a hung one never
    does. `call_seconds` is what every call takes. `ended` says when each guest last ended."""

    def __init__(
        self,
        clock: Clock,
        *,
        acceleration: Acceleration = Acceleration.TCG,
        boot_seconds: float = 4.0,
        shutdown_seconds: float = 1.0,
        call_seconds: float = 0.0,
        answer: AgentAnswer = _no_answer,
        faults: Faults | None = None,
    ) -> None:
        self.domains: dict[str, FakeGuest] = {}
        self.foreign: list[ObservedGuest] = []
        self.ended: dict[str, float] = {}
        self.consoles: dict[str, socket.socket] = {}
        self.boot_seconds = boot_seconds
        self.shutdown_seconds = shutdown_seconds
        self.call_seconds = call_seconds
        self.answer = answer
        self._clock = clock
        self._acceleration = acceleration
        self._faults = _Faults()
        self._points = faults or NoFaults()
        self._queues: list[asyncio.Queue[GuestHint]] = []
        self._poweroffs: set[asyncio.Task[None]] = set()
        self._saved: dict[bytes, _Saved] = {}

    # --- what tests do to it

    def fail(self, call: str, times: int = 1) -> None:
        """The next `times` calls of that name raise HypervisorError and do nothing."""
        self._faults.failing[call] += times

    def hang(self, call: str, times: int = 1) -> None:
        """The next `times` calls of that name never return."""
        self._faults.hanging[call] += times

    def kill(self, name: str) -> None:
        """QEMU dies."""
        self._end(name, "stopped: qemu died")

    def power_off(self, name: str) -> None:
        """The guest powers itself off."""
        self._end(name, "shutdown: guest")

    def panic(self, name: str) -> None:
        """The guest's kernel panics; the domain stays, crashed."""
        self.domains[name].state = GuestState.CRASHED
        self._publish(name, "crashed: panicked")

    def freeze(self, name: str) -> None:
        """The guest's vCPUs are stopped, as by `virsh suspend`."""
        guest = self._present(name)
        if guest.state is GuestState.RUNNING:
            guest.state = GuestState.PAUSED
            self._publish(name, "suspended: paused")

    def vanish(self, name: str) -> None:
        """The guest is gone without an event, as when the daemon was not listening."""
        self.domains.pop(name, None)

    # --- the protocol

    async def acceleration(self) -> AccelerationChoice:
        await self._called("acceleration")
        return AccelerationChoice(acceleration=self._acceleration, reason="it was made so")

    async def guests(self) -> Sequence[ObservedGuest]:
        await self._called("guests")
        return [self._observed(guest) for guest in self.domains.values()] + self.foreign

    async def counters(self) -> Mapping[str, GuestCounters]:
        """Its guests hold half of their memory, a quarter of which others have, too."""
        await self._called("counters")
        return {guest.config.uuid: self._counted(guest) for guest in self.domains.values()}

    async def start(self, config: GuestConfig) -> None:
        await self._called("start")
        present = self.domains.get(config.name)
        if present is not None:
            _check_same(present, config)
            present.state = GuestState.RUNNING
            return
        self._disk_moves_on(config.name)
        boots_at = self._clock.now() + self.boot_seconds
        self.domains[config.name] = FakeGuest(
            config=config,
            cpus=config.boot_cpus,
            boots_at=boots_at,
            state=GuestState.PAUSED,
            linked=config.linked,
        )
        await self._points.at("hypervisor:paused")
        await self._clock.sleep(self.call_seconds)
        self._present(config.name).state = GuestState.RUNNING
        self._publish(config.name, "started")

    async def fingerprint(self) -> str:
        await self._called("fingerprint")
        return f"fake {self._acceleration}"

    async def save(self, name: str, path: Path) -> None:
        await self._called("save")
        if name not in self.domains and path.exists() and path.read_bytes() in self._saved:
            return
        guest = self._present(name)
        state = SAVED + b" %d" % len(self._saved)
        path.write_bytes(state)
        self._saved[state] = _Saved(guest)
        await self._points.at("hypervisor:saved")
        self._end(guest.config.name, "stopped: saved")

    async def share(self, disk: Path) -> None:
        await self._called("share")
        disk.chmod(0o440)

    async def wake(self, name: str, uuid: str, limits: GuestLimits, saved: Path) -> None:
        """A guest goes on where it was. Raises AssertionError: for the second time."""
        await self._called("wake")
        if name in self.domains:
            return
        state = saved.read_bytes() if saved.exists() else b""
        known = self._saved.get(state)
        if known is None or known.guest.config.name != name or known.guest.config.uuid != uuid:
            raise HypervisorError("The saved state cannot be used: it is damaged.")
        assert not known.outlived, f"{name}: its disk has moved on since its memory was saved"
        known.guest.state, known.guest.cpus = GuestState.PAUSED, limits.cpus
        self.domains[name] = known.guest
        self._publish(name, "started")

    async def fork(self, config: GuestConfig, saved: Path) -> None:
        """Its agent answers at once; what it is told first must be who it is. Restored, it stands
        still, with its template's caps and without its volumes."""
        await self._called("fork")
        if not saved.exists() or not saved.read_bytes().startswith(SAVED):
            raise HypervisorError("The saved state cannot be used: it is damaged.")
        present = self.domains.get(config.name)
        if present is not None and present.state is not GuestState.PAUSED:
            return
        guest = self.domains[config.name] = FakeGuest(
            config=replace(config, volumes=()),
            cpus=float("inf"),
            boots_at=self._clock.now(),
            state=GuestState.PAUSED,
            linked=False,
        )
        await self._points.at("hypervisor:restored")
        guest.config, guest.cpus = config, config.boot_cpus
        guest.state = GuestState.RUNNING
        self._publish(config.name, "started")

    async def raise_link(self, name: str) -> None:
        await self._called("raise_link")
        self._present(name).linked = True

    async def set_cpus(self, name: str, cpus: float) -> None:
        await self._called("set_cpus")
        self._present(name).cpus = cpus

    async def suspend(self, name: str) -> None:
        await self._called("suspend")
        self.freeze(name)

    async def resume(self, name: str) -> None:
        await self._called("resume")
        guest = self._present(name)
        if guest.state is GuestState.PAUSED:
            guest.state = GuestState.RUNNING
            self._disk_moves_on(name)
            self._publish(name, "resumed")

    async def shutdown(self, name: str) -> None:
        await self._called("shutdown")
        guest = self.domains.get(name)
        if guest is None:
            return
        if not guest.shutdown_asked and guest.state is GuestState.RUNNING:
            guest.shutdown_asked = True
            self._spawn(self._power_off_later(name, guest))

    async def destroy(self, name: str) -> None:
        await self._called("destroy")
        if name in self.domains:
            self._end(name, "destroyed")

    async def agent(
        self, name: str, command: str, arguments: dict[str, Any], timeout_seconds: float
    ) -> Any:
        await self._called("agent")
        guest = self.domains.get(name)
        if guest is None or guest.state is not GuestState.RUNNING:
            raise GuestError(f"There is no running guest {name}.")
        if self._clock.now() < guest.boots_at:
            raise GuestError(f"The guest agent of {name} is not connected.", retryable=True)
        if guest.agent_silent or guest.hung:
            await self._clock.sleep(timeout_seconds)
            raise GuestError(f"The guest agent of {name} did not answer.", retryable=True)
        return self.answer(guest, command, arguments)

    async def open_console(self, name: str) -> int:
        """The guest's end of it is in `consoles`."""
        await self._called("open_console")
        self._present(name)
        ours, self.consoles[name] = socket.socketpair()
        return ours.detach()

    def hints(self) -> AsyncIterator[GuestHint]:
        queue: asyncio.Queue[GuestHint] = asyncio.Queue()
        self._queues.append(queue)
        return self._drain(queue)

    async def close(self) -> None:
        for task in self._poweroffs:
            task.cancel()

    # --- inside

    def _disk_moves_on(self, name: str) -> None:
        """What was saved of that guest before must never be resumed again."""
        for saved in self._saved.values():
            if saved.guest.config.name == name:
                saved.outlived = True

    async def _called(self, call: str) -> None:
        if self.call_seconds:
            await self._clock.sleep(self.call_seconds)
        if self._faults.hanging[call] > 0:
            self._faults.hanging[call] -= 1
            await asyncio.Event().wait()
        if self._faults.failing[call] > 0:
            self._faults.failing[call] -= 1
            raise HypervisorError(f"Injected: {call} fails.", retryable=True)

    def _counted(self, guest: FakeGuest) -> GuestCounters:
        self._lives_on(guest)
        usable = guest.config.memory_bytes
        return GuestCounters(
            life=id(guest),
            cpu_seconds=guest.cpu_seconds,
            throttled_seconds=0.0,
            rss_bytes=usable // 2,
            weight=MemoryWeight(pss_bytes=usable * 3 // 8, shared_bytes=usable // 8),
            used_bytes=usable // 2,
            usable_bytes=usable,
            read_bytes=0,
            written_bytes=0,
            received_bytes=0,
            sent_bytes=guest.sent_packets * 1500,
        )

    def _lives_on(self, guest: FakeGuest) -> None:
        """One that lives is a little busy; a hung one is not."""
        if guest.state is GuestState.RUNNING and not guest.hung:
            guest.cpu_seconds = 0.1 * (self._clock.now() - guest.boots_at + self.boot_seconds)

    def _observed(self, guest: FakeGuest) -> ObservedGuest:
        """One that lives sends a packet now and then."""
        self._lives_on(guest)
        if guest.state is GuestState.RUNNING and not guest.hung:
            guest.sent_packets += 1
        config = guest.config
        return ObservedGuest(
            name=config.name,
            uuid=config.uuid,
            identity=config.identity,
            state=guest.state,
            cpu_seconds=guest.cpu_seconds,
            sent_packets=guest.sent_packets,
        )

    def _present(self, name: str) -> FakeGuest:
        if name not in self.domains:
            raise HypervisorError(f"There is no guest {name}.", retryable=True)
        return self.domains[name]

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._poweroffs.add(task)
        task.add_done_callback(self._poweroffs.discard)

    async def _power_off_later(self, name: str, guest: FakeGuest) -> None:
        await self._clock.sleep(self.shutdown_seconds)
        # A guest of the same name may have been started since; that one was not asked.
        if self.domains.get(name) is guest and not guest.hung:
            self._end(name, "shutdown: guest")

    def _end(self, name: str, detail: str) -> None:
        if self.domains.pop(name, None) is not None:
            self.ended[name] = self._clock.now()
            self._publish(name, detail)

    def _publish(self, name: str, detail: str) -> None:
        for queue in self._queues:
            queue.put_nowait(GuestHint(name=name, detail=detail))

    async def _drain(self, queue: asyncio.Queue[GuestHint]) -> AsyncIterator[GuestHint]:
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.remove(queue)


def _check_same(present: FakeGuest, config: GuestConfig) -> None:
    if present.config.uuid != config.uuid:
        raise HypervisorError(f"There is another domain with the name {config.name}.")
    if present.state is GuestState.CRASHED:
        raise HypervisorError(
            f"The guest {config.name} has ended and must be removed first.", retryable=True
        )
