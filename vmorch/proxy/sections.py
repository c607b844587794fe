"""Which HAProxy sections a configuration needs, and whether it makes sense. Pure.

A frontend in TCP mode cannot lead to a backend in HTTP mode. So an HTTP backend that a listener
leads to gets a twin in TCP mode, `NAME:tcp`; the colon is legal for HAProxy and never part of a
backend's own name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from vmorch.errors import ProxyError
from vmorch.proxy.protocol import Backend, Check, Mode, ProxyConfig, Server

TWIN_SUFFIX = ":tcp"

_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
_HOST = re.compile(r"[A-Za-z0-9_.:-]+\Z")
# What may stand between single quotes in a configuration file: printable, no quote, no space.
_PATH = re.compile(r"/[!-&(-~]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One `backend` of the file. `backend` is the protocol's name, `name` HAProxy's."""

    name: str
    backend: str
    mode: Mode
    servers: tuple[Server, ...]
    check: Check | None


def section_for(backend: Backend, mode: Mode) -> str:
    """The name of the section through which `backend` is reached in `mode`."""
    twin = backend.mode is Mode.HTTP and mode is Mode.TCP
    return backend.name + TWIN_SUFFIX if twin else backend.name


def backend_of(section: str) -> str:
    return section.removesuffix(TWIN_SUFFIX)


def sections(config: ProxyConfig) -> tuple[Section, ...]:
    """Every backend section, sorted by name."""
    listened = {listener.backend for listener in config.listeners}
    made = [
        Section(
            name=section_for(backend, mode),
            backend=backend.name,
            mode=mode,
            servers=tuple(sorted(backend.servers, key=lambda server: server.id)),
            check=backend.check,
        )
        for backend in config.backends
        for mode in _modes(backend, listened)
    ]
    return tuple(sorted(made, key=lambda section: section.name))


def _modes(backend: Backend, listened: set[str]) -> tuple[Mode, ...]:
    if backend.mode is Mode.HTTP and backend.name in listened:
        return (Mode.HTTP, Mode.TCP)
    return (backend.mode,)


def namespaces(config: ProxyConfig) -> tuple[str, ...]:
    return tuple(sorted({item.namespace for item in config.listeners if item.namespace}))


def validate(config: ProxyConfig) -> None:
    """Refuse what HAProxy would refuse, or worse, would read as something else.

    Raises:
        ProxyError: with every problem in its text.
    """
    found = [*_backend_problems(config), *_listener_problems(config), *_route_problems(config)]
    if found:
        raise ProxyError(
            "The proxy's configuration makes no sense: " + "; ".join(found) + ".",
            hint="Correct the routes, ports or health checks of the services named.",
        )


def _backend_problems(config: ProxyConfig) -> Iterator[str]:
    yield from _twice("backend", (backend.name for backend in config.backends))
    for backend in config.backends:
        if not _NAME.match(backend.name):
            yield f"'{backend.name}' cannot name a backend"
        yield from _twice(f"server of {backend.name}", (s.name for s in backend.servers))
        yield from _twice(f"server id of {backend.name}", (str(s.id) for s in backend.servers))
        for server in backend.servers:
            if not _NAME.match(server.name) or server.id < 1 or not 1 <= server.weight <= 256:
                yield f"'{server.name}' of {backend.name} has no proper name, id or weight"
            if not _is_endpoint(server.address, server.port):
                yield f"{server.address}:{server.port} of {backend.name} is no address and port"
        if backend.check and backend.check.path and not _PATH.match(backend.check.path):
            yield f"the check of {backend.name} has the unusable path {backend.check.path!r}"


def _listener_problems(config: ProxyConfig) -> Iterator[str]:
    known = {backend.name for backend in config.backends}
    places = (f"{i.address}:{i.port} in {i.namespace or 'the host'}" for i in config.listeners)
    yield from _twice("listener", places)
    for item in config.listeners:
        if not _is_endpoint(item.address, item.port):
            yield f"{item.address}:{item.port} is no address and port to listen on"
        if item.namespace is not None and not _NAME.match(item.namespace):
            yield f"'{item.namespace}' cannot name a network namespace"
        if item.backend not in known:
            yield f"{item.address}:{item.port} leads to the unknown backend '{item.backend}'"


def _route_problems(config: ProxyConfig) -> Iterator[str]:
    modes = {backend.name: backend.mode for backend in config.backends}
    yield from _twice("route", (f"{r.host.lower()}{r.path}" for r in config.routes))
    for route in config.routes:
        if not _HOST.match(route.host) or not _PATH.match(route.path):
            yield f"{route.host!r} with {route.path!r} is no host and path"
        if modes.get(route.backend) is not Mode.HTTP:
            yield f"{route.host}{route.path} leads to '{route.backend}', which is no HTTP backend"


def _is_endpoint(address: str, port: int) -> bool:
    try:
        ip_address(address)
    except ValueError:
        return False
    return 1 <= port <= 65535


def _twice(kind: str, names: Iterable[str]) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"the {kind} {name} is there {count} times"
