from __future__ import annotations

import asyncio

import pytest

from vmorch.errors import ProxyError
from vmorch.proxy.fake import FakeProxy
from vmorch.proxy.protocol import (
    AddressUnavailable,
    Backend,
    Endpoint,
    HttpRoute,
    Listener,
    Mode,
    Proxy,
    ProxyConfig,
    Server,
    ServerStatus,
)


def server(number: int, *, admitted: bool = True) -> Server:
    return Server(name=f"s-{number}", id=number, address="10.0.0.1", port=80, admitted=admitted)


def config(*servers: Server) -> ProxyConfig:
    return ProxyConfig(
        backends=(
            Backend(name="b", mode=Mode.HTTP, servers=servers, check=None),
            Backend(name="t", mode=Mode.TCP, servers=(), check=None),
            Backend(name="h", mode=Mode.HTTP, servers=(), check=None),
        ),
        listeners=(Listener(address="127.0.0.1", port=80, namespace=None, backend="t"),),
        routes=(
            HttpRoute(host="a.localhost", path="/", backend="b"),
            HttpRoute(host="a.localhost", path="/api", backend="b"),
            HttpRoute(host="a.localhost", path="/", backend="h", headers=(("X-A", "1"),)),
        ),
    )


def test_sessions_go_to_the_least_loaded_admitted_server_that_is_up() -> None:
    proxy = FakeProxy()
    asyncio.run(proxy.apply(config(server(1), server(2), server(3, admitted=False))))
    assert {proxy.connect("b"), proxy.connect("b")} == {("b", "s-1"), ("b", "s-2")}
    proxy.down.add(("b", "s-1"))
    assert proxy.connect("b") == ("b", "s-2")
    assert asyncio.run(proxy.status()) == {
        ("b", "s-1"): ServerStatus(sessions=1, up=False),
        ("b", "s-2"): ServerStatus(sessions=2, up=True),
        ("b", "s-3"): ServerStatus(sessions=0, up=True),
    }
    proxy.disconnect(("b", "s-1"))
    asyncio.run(proxy.apply(config(server(2, admitted=False))))
    assert proxy.connect("b") is None
    assert asyncio.run(proxy.status())["b", "s-2"].sessions == 2


def test_routes_are_found_as_haproxy_finds_them() -> None:
    proxy = FakeProxy()
    asyncio.run(proxy.apply(config()))
    assert proxy.routed("A.localhost.:8080", "/x") == "b"
    assert proxy.routed("b.localhost") is None
    assert proxy.routed("a.localhost", "/x", {"x-a": "1"}) == "h"
    assert proxy.routed("a.localhost", "/x", {"x-a": "2"}) == "b"
    assert proxy.routed("a.localhost", "/api", {"x-a": "1"}) == "b"


def test_killed_it_runs_again_after_the_next_apply() -> None:
    proxy: Proxy = FakeProxy()
    asyncio.run(proxy.apply(config(server(1))))
    assert asyncio.run(proxy.running())
    asyncio.run(proxy.stop())
    assert not asyncio.run(proxy.running())
    assert asyncio.run(proxy.status()) == {}
    asyncio.run(proxy.apply(config(server(1))))
    assert asyncio.run(proxy.running())


def test_what_is_refused_changes_nothing() -> None:
    proxy = FakeProxy()
    asyncio.run(proxy.apply(config(server(1))))
    before = proxy.config
    proxy.refusal = ProxyError("no")
    with pytest.raises(ProxyError, match="no"):
        asyncio.run(proxy.apply(config(server(2))))
    proxy.refusal = None
    proxy.taken.add(Endpoint(address="127.0.0.1", port=80))
    with pytest.raises(AddressUnavailable) as caught:
        asyncio.run(proxy.apply(config(server(2))))
    assert caught.value.endpoints == (Endpoint(address="127.0.0.1", port=80),)
    with pytest.raises(ProxyError, match="no address and port"):
        asyncio.run(proxy.apply(config(Server(name="s", id=1, address="x", port=1, admitted=True))))
    assert proxy.config is before
    assert proxy.applied == 1
