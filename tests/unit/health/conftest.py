from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from vmorch.errors import GuestError
from vmorch.health.prober import HealthProber
from vmorch.health.protocol import Health, Target
from vmorch.model.guest import GuestReport
from vmorch.model.spec import HealthCheck
from vmorch.simulation.virtual import VirtualClock, run_virtually

KEY = ("shop", "orders-1", 1)


@dataclass
class FakeInsides:
    """A guest's answers; each call takes `seconds`."""

    reported: GuestReport | None = None
    code: int | None = 0
    output: bytes = b""
    seconds: float = 0.1
    reports: list[float] = field(default_factory=list)
    commands: list[tuple[str, ...]] = field(default_factory=list)

    async def report(self, domain: str, timeout_seconds: float) -> GuestReport:
        self.reports.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        if self.reported is None:
            raise GuestError(f"{domain}: the guest agent is not connected.")
        return self.reported

    async def run_as_service(
        self, domain: str, argv: Sequence[str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        self.commands.append(tuple(argv))
        await asyncio.sleep(self.seconds)
        if self.code is None:
            raise GuestError(f"{domain}: the guest agent is not connected.")
        return self.code, self.output


@dataclass
class FakeServer:
    """What a TCP connection meets: an error, silence, or an answer."""

    error: int | None = None
    silent: bool = False
    answer: bytes = b"HTTP/1.1 200 OK\r\n\r\nfine"
    asked: list[float] = field(default_factory=list)
    sent: bytes = b""

    async def connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, Any]:
        self.asked.append(asyncio.get_running_loop().time())
        if self.error is not None:
            raise OSError(self.error, "no")
        reader = asyncio.StreamReader()
        if not self.silent:
            reader.feed_data(self.answer)
            reader.feed_eof()
        return reader, _Writer(self)


@dataclass
class _Writer:
    server: FakeServer

    def write(self, data: bytes) -> None:
        self.server.sent = data

    async def drain(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Bench:
    """A prober in virtual time with one target."""

    insides: FakeInsides
    server: FakeServer
    prober: HealthProber
    changes: list[Health]

    def now(self) -> Health:
        return self.prober.results()[KEY]

    async def run(self, seconds: float) -> Health:
        await asyncio.sleep(seconds)
        return self.now()


@pytest.fixture
def target() -> Callable[..., Target]:
    def make(check: HealthCheck, **changes: Any) -> Target:
        values: dict[str, Any] = {
            "key": KEY,
            "domain": "d",
            "address": "10.0.0.1",
            "port": 80,
            "has_agent": True,
            "wants_cloud_init": False,
            "time_scale": 1.0,
        }
        return Target(check=check, **{**values, **changes})

    return make


@pytest.fixture
def virtually() -> Callable[[Callable[[Bench], Coroutine[Any, Any, None]]], None]:
    """Runs a test's coroutine against a fresh bench, in virtual time."""

    def run(body: Callable[[Bench], Awaitable[None]]) -> None:
        async def whole() -> None:
            insides, server = FakeInsides(), FakeServer()
            changes: list[Health] = []
            prober = HealthProber(VirtualClock(), insides, connect=server.connect)
            prober.changed = lambda: changes.append(prober.results()[KEY])
            try:
                await body(Bench(insides, server, prober, changes))
            finally:
                await prober.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        run_virtually(whole())

    return run


@pytest.fixture
def report() -> Callable[..., GuestReport]:
    def make(service: str = "active", cloud_init: str = "off", **more: Any) -> GuestReport:
        return GuestReport(instance_id="i", service=service, cloud_init=cloud_init, **more)

    return make
