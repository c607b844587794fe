"""Whether a `ProxyConfig` makes sense, before HAProxy is bothered with it. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from vmorch.errors import ProxyError
from vmorch.model.compose.quantities import (
    CHECK_PATH,
    HEADER_NAME,
    HEADER_VALUE,
    MOST_BODY_BYTES,
    MOST_HEADERS,
)
from vmorch.proxy.protocol import HttpRoute, Mode, ProxyConfig

_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
_HOST = re.compile(r"[A-Za-z0-9_.-]+\Z")


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
        if not (backend.treatment.maintenance or "").isprintable():
            yield f"the text of {backend.name}'s maintenance is not one line"
        if not 0 <= (backend.treatment.body_bytes or 0) <= MOST_BODY_BYTES:
            yield f"the bound of {backend.name}'s bodies is {backend.treatment.body_bytes} bytes"
        if backend.check and backend.check.path and not _is(CHECK_PATH, backend.check.path):
            yield f"the check of {backend.name} has the unusable path {backend.check.path!r}"


def _listener_problems(config: ProxyConfig) -> Iterator[str]:
    modes = {backend.name: backend.mode for backend in config.backends}
    places = (f"{i.address}:{i.port} in {i.namespace or 'the host'}" for i in config.listeners)
    yield from _twice("listener", places)
    for item in config.listeners:
        if not _is_endpoint(item.address, item.port):
            yield f"{item.address}:{item.port} is no address and port to listen on"
        if item.namespace is not None and not _NAME.match(item.namespace):
            yield f"'{item.namespace}' cannot name a network namespace"
        if modes.get(item.backend) is not Mode.TCP:
            yield f"{item.address}:{item.port} leads to '{item.backend}', which is no TCP backend"


def _route_problems(config: ProxyConfig) -> Iterator[str]:
    modes = {backend.name: backend.mode for backend in config.backends}
    yield from _twice("route", map(_shown, config.routes))
    for route in config.routes:
        if not _HOST.match(route.host) or not _is(CHECK_PATH, route.path):
            yield f"{route.host!r} with {route.path!r} is no host and path"
        if len(route.headers) > MOST_HEADERS:
            yield f"{route.host}{route.path} asks for {len(route.headers)} headers"
        for name, value in route.headers:
            if not _is(HEADER_NAME, name) or not _is(HEADER_VALUE, value):
                yield f"{name!r} with {value!r} is no header of {route.host}{route.path}"
        if modes.get(route.backend) is not Mode.HTTP:
            yield f"{route.host}{route.path} leads to '{route.backend}', which is no HTTP backend"


def _is(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None


def _shown(route: HttpRoute) -> str:
    headers = sorted(f" {name.lower()}: {value}" for name, value in route.headers)
    return f"{route.host.lower()}{route.path.rstrip('/')}/{';'.join(headers)}"


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
