"""What HAProxy says it has counted: of clients that pause, over a reload, of guests that lie."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from proxy_world import World, eventually, routed, running_by_itself, web

from vmorch.errors import ProxyError
from vmorch.model.counters import TrafficCounters, TrafficReport
from vmorch.proxy.protocol import Check, HttpRoute, ProxyConfig, Server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="HAProxy's master runs as root")

WEB = "shop.web.80"
PAUSE_SECONDS = 0.5


@pytest.fixture
def world() -> Iterator[World]:
    with running_by_itself() as world:
        yield world


def counted(world: World) -> TrafficReport:
    report = asyncio.run(world.proxy.counters())
    assert report is not None
    return report


def backend(world: World) -> TrafficCounters:
    return counted(world).backends[WEB]


def with_another_route(config: ProxyConfig) -> ProxyConfig:
    """Needs a reload."""
    more = HttpRoute(host="more.localhost", path="/", backend=WEB)
    return replace(config, routes=(*config.routes, more))


def test_a_clients_pauses_are_no_time_of_the_service(world: World) -> None:
    world.apply(routed(world.site("web-1").server()))
    client = http.client.HTTPConnection("127.0.0.1", world.place.http_port, timeout=20)
    with closing(client):
        for _ in range(4):
            client.request("GET", "/", headers={"Host": "web.localhost"})
            client.getresponse().read()
            time.sleep(PAUSE_SECONDS)
    eventually(lambda: backend(world).requests == 4)
    for counters in (backend(world), counted(world).servers[WEB, "web-1"]):
        assert counters.response_seconds is not None
        assert counters.response_seconds < PAUSE_SECONDS / 2


def test_what_is_open_stays_open_over_a_reload(world: World) -> None:
    site = world.site("web-1")
    config = routed(site.server())
    world.apply(config)
    requests = [threading.Thread(target=world.get, args=("/slow",)) for _ in range(3)]
    for request in requests:
        request.start()
    eventually(lambda: backend(world).sessions == 3)
    before = counted(world)
    world.apply(with_another_route(config))
    report = counted(world)
    assert report.life != before.life
    assert (report.backends[WEB].sessions, report.backends[WEB].connections) == (3, 0)
    assert report.servers[WEB, "web-1"].sessions == 3
    site.release.set()
    for request in requests:
        request.join(10)
    eventually(lambda: backend(world).sessions == 0)


def test_during_reloads_it_answers(world: World) -> None:
    """Whoever looks must not fail because a configuration changes just now."""
    config = routed(world.site("web-1").server())
    world.apply(config)
    ended = threading.Event()

    def looks() -> list[TrafficReport]:
        found = []
        while not ended.is_set():
            found.append(counted(world))
        return found

    with ThreadPoolExecutor() as pool:
        looking = pool.submit(looks)
        for number in range(6):
            world.apply(with_another_route(config) if number % 2 == 0 else config)
        ended.set()
        reports = looking.result()
    assert len({report.life for report in reports}) > 1
    assert all(WEB in report.backends for report in reports)


def test_without_haproxy_there_is_nothing_and_one_that_cannot_be_asked_is_an_error(
    world: World,
) -> None:
    assert asyncio.run(world.proxy.counters()) is None
    world.apply(routed())
    world.place.admin_socket.unlink()
    with pytest.raises(ProxyError):
        asyncio.run(world.proxy.counters())


def serve_lies(listener: socket.socket, reason: bytes) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with closing(connection):
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 500 " + reason + b"\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("end", ["\x0c", "\x1c", "\x85", "\u2028"])
def test_a_guest_cannot_speak_for_another_service(world: World, end: str) -> None:
    row = ",".join(["other.web.80", "web-1", *("9",) * 90])
    listener = socket.create_server(("127.0.0.1", 0))
    world.stack.callback(listener.close)
    reason = f"no{end}{row}{end}".encode()
    threading.Thread(target=serve_lies, args=(listener, reason), daemon=True).start()
    port = listener.getsockname()[1]
    liar = Server(name="web-1", id=1, address="127.0.0.1", port=port, admitted=True)
    check = Check(path="/", port=port, interval_seconds=0.05, retries=1)
    config = routed(liar, check=check)
    world.apply(replace(config, backends=(*config.backends, web(name="other.web.80"))))
    eventually(lambda: not asyncio.run(world.proxy.status())[WEB, "web-1"].up)
    assert set(asyncio.run(world.proxy.status())) == {(WEB, "web-1")}
    assert set(counted(world).servers) == {(WEB, "web-1")}
