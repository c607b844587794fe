from __future__ import annotations

from dataclasses import replace

import pytest

from vmorch.errors import ProxyError
from vmorch.proxy.protocol import (
    Backend,
    Check,
    HttpRoute,
    Listener,
    Mode,
    ProxyConfig,
    Server,
    Treatment,
)
from vmorch.proxy.validation import validate

SERVER = Server(name="web-1", id=1, address="10.0.0.1", port=80, admitted=True)
WEB = Backend(name="a.web.80", mode=Mode.HTTP, servers=(SERVER,), check=None)
DB = Backend(name="a.db.5432", mode=Mode.TCP, servers=(), check=None)
LISTENER = Listener(address="127.0.0.1", port=80, namespace=None, backend="a.db.5432")
ROUTE = HttpRoute(host="web.localhost", path="/", backend="a.web.80")
GOOD = ProxyConfig(backends=(WEB, DB), listeners=(LISTENER,), routes=(ROUTE,))


def with_backend(**changes: object) -> ProxyConfig:
    return replace(GOOD, backends=(replace(WEB, **changes), DB))  # type: ignore[arg-type]


def with_server(**changes: object) -> ProxyConfig:
    return with_backend(servers=(replace(SERVER, **changes),))  # type: ignore[arg-type]


def with_listener(**changes: object) -> ProxyConfig:
    return replace(GOOD, listeners=(replace(LISTENER, **changes),))  # type: ignore[arg-type]


def with_route(**changes: object) -> ProxyConfig:
    return replace(GOOD, routes=(replace(ROUTE, **changes),))  # type: ignore[arg-type]


def check(path: str) -> Check:
    return Check(path=path, port=80, interval_seconds=1, retries=1)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (with_backend(name="a web"), "'a web' cannot name a backend"),
        (with_backend(name="a.web.80:tcp"), "cannot name a backend"),
        (replace(GOOD, backends=(WEB, WEB, DB)), "backend a.web.80 is there 2 times"),
        (with_backend(servers=(SERVER, SERVER)), "server of a.web.80 web-1 is there 2 times"),
        (
            with_backend(servers=(SERVER, replace(SERVER, name="x"))),
            "server id of a.web.80 1 is there 2 times",
        ),
        (with_server(name="web\nglobal"), "no proper name"),
        (with_server(id=0), "no proper name, id or weight"),
        (with_server(weight=300), "no proper name, id or weight"),
        (with_server(address="web.example"), "no address and port"),
        (with_server(port=0), "no address and port"),
        (with_backend(check=check("/a b")), "unusable path '/a b'"),
        (with_backend(check=check("/a'b")), "unusable path"),
        (with_backend(check=check("/a\nuser root")), "unusable path"),
        (with_backend(check=check("health")), "unusable path"),
        (with_listener(address="localhost"), "no address and port to listen on"),
        (with_listener(port=70000), "no address and port to listen on"),
        (with_listener(namespace="a b"), "cannot name a network namespace"),
        (with_listener(backend="nothing"), "leads to 'nothing', which is no TCP backend"),
        (with_listener(backend="a.web.80"), "which is no TCP backend"),
        (
            replace(GOOD, listeners=(LISTENER, LISTENER)),
            "listener 127.0.0.1:80 in the host is there 2 times",
        ),
        (with_route(host="a b"), "is no host and path"),
        (with_route(host="a' }"), "is no host and path"),
        (with_route(path="api"), "is no host and path"),
        (with_route(path="/a'"), "is no host and path"),
        (with_route(headers=(("X A", "b"),)), "'X A' with 'b' is no header of web.localhost/"),
        (with_route(headers=(("X-A", "it's"),)), "is no header"),
        (with_route(headers=(("X-A", ""),)), "is no header"),
        (with_route(headers=(("X-A", "}"),)), "is no header"),
        (with_route(headers=tuple((f"X-{n}", "a") for n in range(7))), "asks for 7 headers"),
        (with_backend(treatment=Treatment(body_bytes=2**63 - 1)), "bodies is 92233720368547758"),
        (with_backend(treatment=Treatment(maintenance="a\nb")), "is not one line"),
        (
            replace(GOOD, routes=tuple(replace(ROUTE, path=path) for path in ("/api", "/api/"))),
            "route web.localhost/api/ is there 2 times",
        ),
        (
            replace(
                GOOD,
                routes=tuple(
                    replace(ROUTE, headers=pairs)
                    for pairs in ((("a", "1"), ("B", "2")), (("b", "2"), ("A", "1")))
                ),
            ),
            "route web.localhost/ a: 1; b: 2 is there 2 times",
        ),
        (with_route(backend="a.db.5432"), "which is no HTTP backend"),
        (with_route(backend="nothing"), "which is no HTTP backend"),
        (
            replace(GOOD, routes=(ROUTE, replace(ROUTE, host="WEB.localhost"))),
            "route web.localhost/ is there 2 times",
        ),
    ],
)
def test_nonsense_is_refused_and_named(config: ProxyConfig, text: str) -> None:
    with pytest.raises(ProxyError) as caught:
        validate(config)
    assert text in caught.value.message


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ProxyError) as caught:
        validate(replace(with_server(port=0), routes=(replace(ROUTE, path="x"),)))
    assert caught.value.message.count(";") == 1


def test_sense_is_accepted() -> None:
    validate(GOOD)
    validate(ProxyConfig())
    validate(with_backend(check=check('/h?x=%20;#"$a{}')))
