"""The hypervisor by libvirt."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu  # type: ignore[import-untyped]

from vmorch.effects import Clock
from vmorch.errors import GuestError, HypervisorError
from vmorch.hypervisor import domains
from vmorch.hypervisor.acceleration import AccelerationProbe
from vmorch.hypervisor.connection import Connection
from vmorch.hypervisor.counting import Counting
from vmorch.hypervisor.events import Hints
from vmorch.hypervisor.failures import guest_error, is_absent
from vmorch.hypervisor.files import ensure_spare_disk, hand_over_all, share
from vmorch.hypervisor.fork_xml import woken_xml
from vmorch.hypervisor.forking import fork
from vmorch.hypervisor.host_memory import OomKills
from vmorch.hypervisor.platform import Platform, parse_platform
from vmorch.hypervisor.protocol import GuestConfig, GuestHint, GuestLimits, ObservedGuest
from vmorch.hypervisor.saved_state import read_saved_state
from vmorch.hypervisor.strays import end_strays
from vmorch.hypervisor.xml import domain_xml
from vmorch.model.counters import GuestCounters
from vmorch.model.guest import AccelerationChoice
from vmorch.model.names import Installation

AGENT_CONNECTIONS = 4
# How long a hung agent may hold up the power button.
_AGENT_SHUTDOWN_SECONDS = 2.0
_SAVED_LOOK_SECONDS = 0.5
# libvirt keeps the time itself; beyond this its own call is stuck.
_AGENT_GRACE_SECONDS = 5.0


class LibvirtHypervisor:
    """Guests of one installation on one libvirtd.

    `accel` is auto, kvm or tcg; `directory` is one of its own, for the blank spare disk and
    for pipes.
    Calls of agents have connections of their own: one that hangs holds up no other call. So have
    saves, each of which lasts until a guest's whole memory is written.
    """

    def __init__(
        self,
        uri: str,
        installation: Installation,
        accel: str,
        probe: AccelerationProbe,
        *,
        directory: Path,
        clock: Clock,
    ) -> None:
        self._installation = installation
        self._accel = accel
        self._probe = probe
        self._directory = directory
        self._pipes = directory / "pipes"
        # An earlier process may have been killed while it poured.
        shutil.rmtree(self._pipes, ignore_errors=True)
        self._clock = clock
        self._oom_kills = OomKills()
        self._hints = Hints(f"{installation.short}-", self._oom_kills)
        self._control = Connection(uri, self._opened)
        self._saves = Connection(uri)
        self._agents = [Connection(uri) for _ in range(AGENT_CONNECTIONS)]
        self._counting = Counting(self._control, Connection(uri), installation)
        self._next_agent = itertools.cycle(self._agents)
        self._known_acceleration: AccelerationChoice | None = None
        self._known_platform: Platform | None = None
        self._shutdowns: set[asyncio.Task[None]] = set()

    def _opened(self, connection: libvirt.virConnect) -> None:
        end_strays(connection, f"{self._installation.short}-")
        self._hints.register(connection)

    async def acceleration(self) -> AccelerationChoice:
        if self._known_acceleration is None:
            self._known_acceleration = await self._probe.acceleration(self._accel)
        return self._known_acceleration

    async def guests(self) -> Sequence[ObservedGuest]:
        self._oom_kills.mark()
        return await self._control.call(
            "list its guests", lambda c: domains.observe(c, self._installation)
        )

    async def counters(self) -> Mapping[str, GuestCounters]:
        return await self._counting.count()

    async def start(self, config: GuestConfig) -> None:
        platform = await self._platform()
        spare_disk = await asyncio.to_thread(ensure_spare_disk, self._directory)
        document = domain_xml(config, platform, spare_disk)

        def work(connection: libvirt.virConnect) -> None:
            domain = domains.existing(connection, config.name, config.uuid)
            if domain is None:
                hand_over_all(config, platform.owner)
                domain = domains.create(connection, document)
            elif not domains.is_paused(domain):
                return
            domains.release(domain, config, platform.acceleration)

        await self._control.call(f"start {config.name}", work)

    async def fingerprint(self) -> str:
        platform = await self._platform()
        return await self._control.call(
            "tell its versions", lambda c: domains.fingerprint(c, platform)
        )

    async def save(self, name: str, path: Path) -> None:
        def work(connection: libvirt.virConnect) -> bool:
            return domains.save(connection, name, self._installation, path)

        while True:
            if await self._saves.call(f"save {name}", work):
                return
            await self._clock.sleep(_SAVED_LOOK_SECONDS)

    async def share(self, disk: Path) -> None:
        platform = await self._platform()
        await asyncio.to_thread(share, disk, platform.owner)

    async def wake(self, name: str, uuid: str, limits: GuestLimits, saved: Path) -> None:
        platform = await self._platform()

        def work(connection: libvirt.virConnect) -> None:
            domain = domains.existing(connection, name, uuid)
            if domain is not None:
                if domains.is_paused(domain):
                    domains.limit(domain, limits, platform.acceleration)
                return
            document = woken_xml(read_saved_state(saved).xml, name, uuid)
            domain = domains.restore(connection, name, saved, document)
            with domains.ended_on_failure(domain):
                domains.limit(domain, limits, platform.acceleration)

        await self._control.call(f"wake {name}", work)

    async def fork(self, config: GuestConfig, saved: Path) -> None:
        platform = await self._platform()
        spare_disk = await asyncio.to_thread(ensure_spare_disk, self._directory)

        def work(connection: libvirt.virConnect) -> None:
            fork(
                connection,
                config,
                saved,
                platform=platform,
                spare_disk=spare_disk,
                pipes=self._pipes,
            )

        await self._control.call(f"fork {config.name}", work)

    async def raise_link(self, name: str) -> None:
        await self._control.call(
            f"connect {name}",
            lambda c: domains.raise_link(domains.ours(c, name, self._installation)),
        )

    async def set_cpus(self, name: str, cpus: float) -> None:
        await self._control.call(
            f"set the CPU cap of {name}",
            lambda c: domains.limit_cpus(domains.ours(c, name, self._installation), cpus),
        )

    async def suspend(self, name: str) -> None:
        await self._control.call(
            f"suspend {name}", lambda c: domains.suspend(domains.ours(c, name, self._installation))
        )

    async def resume(self, name: str) -> None:
        await self._control.call(
            f"resume {name}", lambda c: domains.resume(domains.ours(c, name, self._installation))
        )

    async def shutdown(self, name: str) -> None:
        """The agent first; when it says no, or nothing for a moment, the power button too."""
        asked = asyncio.create_task(self._shutdown_by_agent(name))
        self._shutdowns.add(asked)
        asked.add_done_callback(self._forget_shutdown)
        done, _ = await asyncio.wait({asked}, timeout=_AGENT_SHUTDOWN_SECONDS)
        if done and asked.exception() is None:
            return
        await self._to_its_end(f"shut {name} down", name, domains.press_power_button)

    def _forget_shutdown(self, asked: asyncio.Task[None]) -> None:
        """Its failure was answered by the power button, also when it comes late."""
        self._shutdowns.discard(asked)
        if not asked.cancelled():
            asked.exception()

    async def destroy(self, name: str) -> None:
        await self._to_its_end(f"end {name}", name, lambda domain: domain.destroy())

    async def _to_its_end(
        self, what: str, name: str, push: Callable[[libvirt.virDomain], object]
    ) -> None:
        """A guest that has ended meanwhile is where it should be."""

        def work(connection: libvirt.virConnect) -> None:
            try:
                push(domains.ours(connection, name, self._installation))
            except libvirt.libvirtError as error:
                if not is_absent(error):
                    raise

        await self._control.call(what, work)

    async def agent(
        self, name: str, command: str, arguments: dict[str, Any], timeout_seconds: float
    ) -> Any:
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        text, seconds = json.dumps(request), max(1, math.ceil(timeout_seconds))

        def work(connection: libvirt.virConnect) -> str:
            try:
                domain = connection.lookupByName(name)
                return str(libvirt_qemu.qemuAgentCommand(domain, text, seconds, 0))
            except libvirt.libvirtError as error:
                if error.get_error_domain() == libvirt.VIR_FROM_RPC:
                    raise
                raise guest_error(error, name, command) from error

        answer = await self._bounded_agent_call(name, command, seconds, work)
        return json.loads(answer).get("return")

    async def open_console(self, name: str) -> int:
        path = await self._control.call(
            f"find the console of {name}",
            lambda c: domains.console_path(domains.ours(c, name, self._installation)),
        )
        try:
            return os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise HypervisorError(
                f"The console of {name} cannot be opened: {error.strerror}.", retryable=True
            ) from error

    def hints(self) -> AsyncIterator[GuestHint]:
        return self._listen(self._hints.listen())

    async def close(self) -> None:
        for task in self._shutdowns:
            task.cancel()
        await self._counting.close()
        for connection in (self._control, self._saves, *self._agents):
            await connection.close()

    async def _platform(self) -> Platform:
        if self._known_platform is None:
            acceleration = (await self.acceleration()).acceleration
            capabilities = await self._control.call(
                "tell its capabilities", lambda c: str(c.getCapabilities())
            )
            self._known_platform = parse_platform(capabilities, acceleration)
        return self._known_platform

    async def _shutdown_by_agent(self, name: str) -> None:
        await next(self._next_agent).call(
            f"ask the agent of {name} to power off",
            lambda c: domains.ask_agent_to_power_off(domains.ours(c, name, self._installation)),
        )

    async def _bounded_agent_call(self, name: str, command: str, seconds: int, work: Any) -> str:
        try:
            async with asyncio.timeout(seconds + _AGENT_GRACE_SECONDS):
                return str(await next(self._next_agent).call(f"reach the agent of {name}", work))
        except TimeoutError as error:
            raise GuestError(
                f"The guest agent of {name} did not answer {command} within {seconds} s.",
                hint="See its console log.",
                retryable=True,
            ) from error

    async def _listen(self, source: AsyncIterator[GuestHint]) -> AsyncIterator[GuestHint]:
        with contextlib.suppress(HypervisorError):  # events come once there is a connection
            await self._control.call("tell of events", lambda _: None)
        async for hint in source:
            yield hint
