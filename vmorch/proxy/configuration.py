"""`ProxyConfig` -> the text of haproxy.cfg, one small function per backend. Pure.

Equal values give byte-identical text. The *structure* is all of it but the servers: servers are
changed at run time, a change of the structure needs a reload. A digest of the structure, the
*marker*, stands in the worker's description, so that a worker can be asked what it runs.
Words of the configuration: HAProxy 2.6 Configuration Manual.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from vmorch.proxy import holding
from vmorch.proxy.access import ring_section
from vmorch.proxy.listening import listener_name, refuse_meeting
from vmorch.proxy.place import Place
from vmorch.proxy.protocol import (
    ANSWER_SECONDS,
    Backend,
    Check,
    Listener,
    Mode,
    ProxyConfig,
    Server,
)
from vmorch.proxy.routes import endpoint, http_lines, http_side
from vmorch.proxy.validation import validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    text: str
    marker: str
    backends: tuple[Backend, ...]
    namespaces: Mapping[str, int]
    tls: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outside:
    """What the text refers to and does not hold."""

    namespaces: Mapping[str, int]
    certificates: str


def render(
    config: ProxyConfig,
    place: Place,
    *,
    namespaces: Mapping[str, int] | None = None,
    certificates: str = "",
) -> Rendered:
    """The whole file.

    `namespaces` maps the names of router namespaces to their inode numbers. They are a part of
    the structure: a namespace made anew under an old name needs its listeners anew. So is
    `certificates`, the digest of those that the place has; without any, there is no TLS.

    Raises:
        ProxyError: the configuration makes no sense.
        AddressUnavailable: (a ProxyError) listeners are where routes are answered.
    """
    validate(config)
    refuse_meeting(config, place)
    backends = tuple(sorted(map(_ordered, config.backends), key=lambda item: item.name))
    outside = _Outside(namespaces=namespaces or {}, certificates=certificates)
    bare = tuple(replace(backend, servers=()) for backend in backends)
    structure = _document(config, place, outside, backends=bare, marker="")
    marker = hashlib.sha256(structure.encode()).hexdigest()[:16]
    text = _document(config, place, outside, backends=backends, marker=marker)
    return Rendered(
        text=text,
        marker=marker,
        backends=backends,
        namespaces=outside.namespaces,
        tls=bool(certificates),
    )


def _ordered(backend: Backend) -> Backend:
    return replace(backend, servers=tuple(sorted(backend.servers, key=lambda item: item.id)))


def added_server(server: Server, backend: Backend) -> str:
    """What follows a server's name in `add server`, which knows no defaults."""
    return f"{_server_words(server, backend.check)} {_server_defaults(backend)}"


def _server_words(server: Server, check: Check | None) -> str:
    words = f"{endpoint(server.address, server.port)} id {server.id} weight {server.weight}"
    return f"{words} check" if check else words


def _server_defaults(backend: Backend) -> str:
    check = backend.check
    # Idle connections hinder `del server`; by default the last one stays for 15 s.
    words = "pool-purge-delay 1s"
    if backend.send_proxy:
        # Checks go without it, as the daemon's own do.
        words += " send-proxy-v2"
    if check is None:
        return words
    # rise 1: a check may only take away what the daemon has already found ready, so one good
    # answer is enough to give it back.
    interval = max(1, round(check.interval_seconds * 1000))
    return f"{words} port {check.port} inter {interval}ms fall {max(1, check.retries)} rise 1"


def _document(
    config: ProxyConfig,
    place: Place,
    outside: _Outside,
    *,
    backends: tuple[Backend, ...],
    marker: str,
) -> str:
    tls = bool(outside.certificates)
    logged = any(backend.treatment.logged for backend in backends)
    held = [backend for backend in backends if backend.hold_seconds is not None]
    blocks = [
        _head(outside),
        [*_global(place, marker), *(holding.global_lines(place) if held else [])],
        _defaults(),
        *([ring_section()] if logged else []),
        *(http_side(config.routes, place, tls=tls, logged=logged) if config.routes else ()),
        *(
            _listener(item, listener_name(item, outside.namespaces))
            for item in sorted(config.listeners, key=_listener_order)
        ),
        *(holding.gate(backend, place) for backend in held),
        *(_backend(backend, place, silent=logged) for backend in backends),
    ]
    return "\n".join("\n".join(block) + "\n" for block in blocks)


def _head(outside: _Outside) -> list[str]:
    return [
        "# Written by vmorch; changes are lost.",
        *([f"# certificates {outside.certificates}"] if outside.certificates else []),
    ]


def _global(place: Place, marker: str) -> list[str]:
    return [
        "global",
        f"    description 'vmorch {marker}'",
        "    master-worker",
        f"    user {place.user}",
        f"    group {place.group}",
        f"    stats socket '{place.admin_socket}' mode 600 level admin expose-fd listeners",
        # Without it the kernel lets two root processes share a port, each getting a part of
        # the connections, instead of telling us that it is taken. Reloads pass descriptors on.
        "    noreuseport",
        # A worker left behind by a reload serves its connections to their end, within this.
        "    hard-stop-after 1h",
    ]


def _defaults() -> list[str]:
    return [
        "defaults",
        # A guest that is gone answers nothing: a lost SYN is repeated after 1 and 3 s.
        "    timeout connect 4s",
        "    timeout client 60s",
        f"    timeout server {ANSWER_SECONDS}s",
        "    timeout tunnel 24h",
        "    timeout http-request 10s",
        # Short: after a reload an idle client has one more request with the old worker, whose
        # servers nobody can change any more ("Proxy is disabled"); it is retried elsewhere when
        # its server has gone, as long as that worker knows another.
        "    timeout http-keep-alive 10s",
        # Lenient, as a busy capped guest answers late and is not dead.
        "    timeout check 5s",
        # Dead peers of idle connections are found by the kernel, in about a minute.
        "    option clitcpka",
        "    clitcpka-idle 30s",
        "    clitcpka-intvl 10s",
        "    clitcpka-cnt 3",
        "    option srvtcpka",
        "    srvtcpka-idle 30s",
        "    srvtcpka-intvl 10s",
        "    srvtcpka-cnt 3",
        # A failed connection goes to another server at every retry.
        "    retries 3",
        "    option redispatch 1",
    ]


def _listener_order(item: Listener) -> tuple[str, str, int]:
    return (item.namespace or "", item.address, item.port)


def _listener(item: Listener, name: str) -> list[str]:
    # TCP also where HTTP is spoken: what one service says to another, or a published port
    # carries, needs none of HTTP's features, and bytes that pass unread cannot be misread.
    words = f" namespace {item.namespace}" if item.namespace else ""
    words += " accept-proxy" if item.accept_proxy else ""
    return [
        f"frontend {name}",
        "    mode tcp",
        # Idle connections of a pool live as long as in a network without a proxy.
        "    timeout client 24h",
        f"    bind {endpoint(item.address, item.port)}{words}",
        f"    default_backend {item.backend}",
    ]


def _backend(backend: Backend, place: Place, *, silent: bool) -> list[str]:
    """`silent`: there is an access log, which is not of what this backend does not want there."""
    return [
        f"backend {backend.name}",
        f"    mode {backend.mode.value}",
        # Servers of both may be changed at run time (those of static-rr and of hashes may not).
        # leastconn sends less to an instance that its cap has made slow, but where nobody is busy
        # it takes no notice of weights.
        f"    balance {'roundrobin' if backend.by_weight else 'leastconn'}",
        *(
            http_lines(backend, silent=silent)
            if backend.mode is Mode.HTTP
            else ["    timeout server 24h"]
        ),
        *holding.hold_lines(backend),
        *(_check_lines(backend.check) if backend.check else ()),
        # In the structure, so that a changed check is seen also where no server is.
        f"    default-server {_server_defaults(backend)}",
        *holding.gate_server(backend, place),
        *(_server_line(server, backend.check) for server in backend.servers),
    ]


def _check_lines(check: Check) -> list[str]:
    if check.path is None:
        return ["    option tcp-check"]
    return [
        "    option httpchk",
        f"    http-check send meth GET uri '{check.path}' ver HTTP/1.1 hdr Host vmorch"
        " hdr Connection close",
        "    http-check expect status 200-399",
    ]


def _server_line(server: Server, check: Check | None) -> str:
    # `disabled` is the only way to begin without traffic; once the worker runs it is drained
    # instead, so that its checks go on.
    words = f"    server {server.name} {_server_words(server, check)}"
    return words if server.admitted else f"{words} disabled"
