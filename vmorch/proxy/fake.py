"""`Proxy` in memory, for the simulation and for tests of whoever uses a proxy.

It refuses what HAProxy's adapter refuses, keeps what was applied, and lets a test be the rest of
the world: open sessions, take servers down as a failed check would, take ports, kill it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from vmorch.effects import Faults, NoFaults
from vmorch.errors import ProxyError
from vmorch.model.access import Access
from vmorch.model.counters import TrafficCounters, TrafficReport
from vmorch.proxy.listening import missing, refuse_meeting
from vmorch.proxy.place import Place
from vmorch.proxy.protocol import (
    AddressUnavailable,
    Backend,
    Endpoint,
    ProxyConfig,
    Server,
    ServerStatus,
)
from vmorch.proxy.validation import validate

_PLACE = Place(config_dir=Path("/nowhere"), run_dir=Path("/nowhere"), https_port=8443)


class FakeProxy:
    """`config` is what runs (None: nothing does), `applied` counts the calls that changed it.

    Routes are answered where `place` says. Fault points: `proxy.apply` before anything happens,
    `proxy.applied` after all of it.
    """

    def __init__(self, faults: Faults | None = None, place: Place = _PLACE) -> None:
        self._place = place
        self.config: ProxyConfig | None = None
        self.applied = 0
        self.log: list[Access] = []
        self.down: set[tuple[str, str]] = set()
        self.taken: set[Endpoint] = set()
        self.refusal: ProxyError | None = None
        self._sessions: Counter[tuple[str, str]] = Counter()
        self._connections: Counter[tuple[str, str]] = Counter()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._life = 0
        self._faults = faults or NoFaults()
        self._gone = asyncio.Event()
        self._calls: asyncio.Queue[str] = asyncio.Queue()

    async def check(self, config: ProxyConfig) -> None:
        validate(config)
        if self.refusal:
            raise self.refusal
        self._check_ports(config)

    async def apply(self, config: ProxyConfig) -> None:
        await self._faults.at("proxy.apply")
        await self.check(config)
        if config != self.config:
            self.config = config
            self.applied += 1
        await self._faults.at("proxy.applied")

    def _check_ports(self, config: ProxyConfig) -> None:
        refuse_meeting(config, self._place)
        wanted = missing(config, self._place, held=(), namespaces={})
        if blocked := tuple(endpoint for endpoint in wanted if endpoint in self.taken):
            raise AddressUnavailable(
                f"The proxy cannot listen on {', '.join(map(str, blocked))}: it is taken.",
                hint="Choose another port or address.",
                endpoints=blocked,
            )

    async def status(self) -> Mapping[tuple[str, str], ServerStatus]:
        if self.config is None:
            return {}
        return {
            (backend.name, server.name): ServerStatus(
                sessions=self._sessions[backend.name, server.name],
                up=(backend.name, server.name) not in self.down,
            )
            for backend in self.config.backends
            for server in backend.servers
        }

    async def counters(self) -> TrafficReport | None:
        """Each session is one request, answered when it ends."""
        if self.config is None:
            return None
        report = TrafficReport(life=self._life)
        for backend in self.config.backends:
            keys = [(backend.name, server.name) for server in backend.servers]
            report.backends[backend.name] = self._counted(keys)
            report.servers.update((key, self._counted([key])) for key in keys)
        return report

    def _counted(self, keys: Sequence[tuple[str, str]]) -> TrafficCounters:
        return TrafficCounters(
            sessions=sum(self._sessions[key] for key in keys),
            connections=sum(self._connections[key] for key in keys),
            requests=sum(self._requests[key] for key in keys),
        )

    async def accesses(self) -> list[Access]:
        return self.log

    async def answer_times(self) -> Mapping[tuple[str, str], Sequence[float]]:
        times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for line in self.log:
            if line.answer_seconds is not None:
                parts = (line.wait_seconds, line.connect_seconds, line.answer_seconds)
                times[line.environment, line.service].append(sum(part or 0.0 for part in parts))
        return times

    async def calls(self) -> AsyncIterator[str]:
        while True:
            yield await self._calls.get()

    async def running(self) -> bool:
        return self.config is not None

    async def wait_gone(self) -> None:
        self._gone.clear()
        await self._gone.wait()

    async def stop(self) -> None:
        self.kill()

    # What a test does to it

    def kill(self) -> None:
        """As by SIGKILL: every session is cut, nothing runs."""
        self.config = None
        self._life += 1
        for counts in (self._sessions, self._connections, self._requests):
            counts.clear()
        self._gone.set()

    def connect(self, backend: str) -> tuple[str, str] | None:
        """Open a session through `backend`; the key of the server that got it, the one with
        the fewest sessions, or None where the client gets 503 (or a closed connection)."""
        able = [(backend, s.name) for s in self._servers(backend) if self._able(backend, s)]
        if not able:
            self.call(backend)
            return None
        chosen = min(able, key=lambda key: self._sessions[key])
        self._sessions[chosen] += 1
        self._connections[chosen] += 1
        return chosen

    def call(self, backend: str) -> None:
        """Somebody waits for it, if it holds."""
        backends = self.config.backends if self.config else ()
        if any(b.name == backend and b.hold_seconds is not None for b in backends):
            self._calls.put_nowait(backend)

    def disconnect(self, session: tuple[str, str]) -> None:
        self._sessions[session] -= 1
        self._requests[session] += 1

    def routed(
        self, host: str, path: str = "/", headers: Mapping[str, str] | None = None
    ) -> str | None:
        """The backend that a request is led to; None is 404. The longest path prefix wins, and of
        equal ones that with the most headers. `headers` have names in lower case."""
        sent = headers or {}
        name = host.partition(":")[0].rstrip(".").lower()
        fitting = [
            route
            for route in (self.config.routes if self.config else ())
            if route.host.lower() == name
            and f"{path}/".startswith(route.path.rstrip("/") + "/")
            and all(sent.get(key.lower()) == value for key, value in route.headers)
        ]
        found = max(fitting, key=lambda r: (len(r.path.rstrip("/")), len(r.headers)), default=None)
        return found.backend if found else None

    def _servers(self, name: str) -> tuple[Server, ...]:
        backends: tuple[Backend, ...] = self.config.backends if self.config else ()
        return next((backend.servers for backend in backends if backend.name == name), ())

    def _able(self, backend: str, server: Server) -> bool:
        return server.admitted and (backend, server.name) not in self.down
