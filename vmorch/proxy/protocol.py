"""What the daemon asks of the proxy. `haproxy.py` answers with HAProxy, `fake.py` in memory."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from vmorch.errors import ProxyError
from vmorch.model.access import Access
from vmorch.model.counters import TrafficReport

ANSWER_SECONDS = 300
"""For how long a server may be silent where nothing else is said."""


class Mode(enum.StrEnum):
    HTTP = "http"
    TCP = "tcp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An instance's port behind a backend. `id` is unique in its backend and stays (the
    ordinal); `admitted` False drains: no new connections, running ones go on. `closed` ends these,
    too, towards both sides."""

    name: str
    id: int
    address: str
    port: int
    admitted: bool
    weight: int = 100
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """HAProxy's own check, which may only take a server away. `path` None is a TCP check."""

    path: str | None
    port: int
    interval_seconds: float
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """What an HTTP backend does with requests. A server may be silent for `timeout_seconds` (None:
    5 minutes); a body may have `body_bytes` (None: any number). With a text in `maintenance` that
    is the answer to everything, and no server is asked. Of what is `logged`, each request has a
    line in the access log."""

    timeout_seconds: float | None = None
    body_bytes: int | None = None
    maintenance: str | None = None
    logged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """`name` is unique and made of [A-Za-z0-9_.-]: ENVIRONMENT.SERVICE.PORT. `by_weight`: its
    servers get exactly the shares that their weights say, however busy they are. `send_proxy`: they
    are told of each connection's client by a header of the PROXY protocol, version 2. What finds no
    server waits for one, `hold_seconds` at most (None: not at all), and the daemon is called."""

    name: str
    mode: Mode
    servers: tuple[Server, ...]
    check: Check | None
    by_weight: bool = False
    send_proxy: bool = False
    hold_seconds: float | None = None
    treatment: Treatment = Treatment()


class Purpose(enum.StrEnum):
    """What is answered at an endpoint: a `Listener`, or routes, in plain or by TLS. The value is
    the daemon's setting that says where."""

    LISTENER = ""
    HTTP = "http_port"
    TLS = "https_port"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where something listens: `namespace` None is the host."""

    address: str
    port: int
    namespace: str | None = None
    purpose: Purpose = field(default=Purpose.LISTENER, compare=False)

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.address}:{self.port}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A TCP listener of the host (`namespace` None; published ports) or of a router namespace
    (service addresses), leading to one backend. `accept_proxy`: each connection must begin with a
    header of the PROXY protocol, and is taken to be its client's."""

    address: str
    port: int
    namespace: str | None
    backend: str
    accept_proxy: bool = False

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(address=self.address, port=self.port, namespace=self.namespace)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRoute:
    """Requests for `host` whose path begins with `path` and that have each of `headers`, pairs of
    name and whole value, go to `backend`."""

    host: str
    path: str
    backend: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """All that HAProxy should do. Equal values give byte-identical configuration files. With `tls`
    routes are answered by TLS too, where the place has a port and certificates for that."""

    backends: tuple[Backend, ...] = ()
    listeners: tuple[Listener, ...] = ()
    routes: tuple[HttpRoute, ...] = ()
    tls: bool = True

    def without(self, blocked: Collection[Endpoint]) -> ProxyConfig:
        """As much of it as needs none of these endpoints."""
        purposes = {endpoint.purpose for endpoint in blocked}
        taken = {e for e in blocked if e.purpose is Purpose.LISTENER}
        return replace(
            self,
            listeners=tuple(item for item in self.listeners if item.endpoint not in taken),
            routes=() if Purpose.HTTP in purposes else self.routes,
            tls=self.tls and Purpose.TLS not in purposes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """What HAProxy says of a server: `sessions` now open, `up` by its check."""

    sessions: int
    up: bool


class AddressUnavailable(ProxyError):
    """Some addresses cannot be listened on: another program has them, or nobody does.

    `endpoints` are the ones at fault: `ProxyConfig.without` them is accepted, as far as is known.
    """

    def __init__(self, message: str, *, hint: str, endpoints: tuple[Endpoint, ...]) -> None:
        super().__init__(message, hint=hint, retryable=True)
        self.endpoints = endpoints


class Proxy(Protocol):
    async def apply(self, config: ProxyConfig) -> None:
        """Make HAProxy (started if it is not running) do what `config` says: server changes at
        run time, anything else by a hitless reload; always written to the file as well.

        Raises:
            ProxyError: HAProxy refused the configuration; the old one still runs, with the
                server changes made where a backend is in both.
            AddressUnavailable: (a ProxyError) because of listeners; it names them.
        """
        ...

    async def check(self, config: ProxyConfig) -> None:
        """Whether `apply` would do, but for what only shows when it is done; nothing is changed.

        Raises:
            ProxyError: as `apply`.
        """
        ...

    async def status(self) -> Mapping[tuple[str, str], ServerStatus]:
        """(backend, server) -> status. Empty when HAProxy does not run."""
        ...

    async def counters(self) -> TrafficReport | None:
        """What HAProxy has counted; None when it does not run. What is open in workers left behind
        by a reload is in it, what they count is not.

        Raises:
            ProxyError: it does not answer, or not in full.
        """
        ...

    async def accesses(self) -> list[Access]:
        """The last requests that were to be logged, the oldest first, as many as there is room
        for. They end with HAProxy, and after a reload with the last connection of its worker."""
        ...

    async def answer_times(self) -> Mapping[tuple[str, str], Sequence[float]]:
        """Of the same requests, as far as an instance has answered, by (environment, service): the
        seconds from each one to the first byte of its answer, the oldest first."""
        ...

    def calls(self) -> AsyncIterator[str]:
        """The names of backends for which somebody waits, again and again while somebody does."""
        ...

    async def running(self) -> bool: ...

    async def wait_gone(self) -> None:
        """Return soon after a HAProxy that ran has ended, however it did."""
        ...

    async def stop(self) -> None:
        """End HAProxy and remove its sockets. Not running: fine."""
        ...
