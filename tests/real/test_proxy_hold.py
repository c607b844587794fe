"""Requests that wait in HAProxy for a server that is not there yet; nothing leaves the host."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from proxy_world import World, eventually, free_port, plain, routed, running_by_itself, web

from vmorch.proxy.holding import MOST_HELD
from vmorch.proxy.protocol import HttpRoute, Listener, ProxyConfig, Server, Treatment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="HAProxy's master runs as root")

LONG_SECONDS = 30.0
SHORT_SECONDS = 1.0


@pytest.fixture
def world() -> Iterator[World]:
    with running_by_itself() as world:
        yield world


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(60) as pool:
        yield pool


def held(*servers: Server, seconds: float = LONG_SECONDS) -> ProxyConfig:
    config = routed(*servers)
    return replace(
        config, backends=tuple(replace(b, hold_seconds=seconds) for b in config.backends)
    )


def held_tcp(port: int, *servers: Server, seconds: float = LONG_SECONDS) -> ProxyConfig:
    backend = replace(plain(*servers), hold_seconds=seconds)
    return ProxyConfig(
        backends=(backend,),
        listeners=(Listener(address="127.0.0.1", port=port, namespace=None, backend=backend.name),),
    )


@contextmanager
def listening(world: World) -> Iterator[list[str]]:
    """A daemon that only hears who is waited for."""
    heard: list[str] = []
    loop = asyncio.new_event_loop()

    async def listen() -> None:
        async for name in world.another().calls():
            heard.append(name)

    task = loop.create_task(listen())
    thread = threading.Thread(target=loop.run_until_complete, args=(asyncio.wait([task]),))
    thread.start()
    eventually(world.place.call_socket.exists)
    try:
        yield heard
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def waiting(world: World, count: int) -> Callable[[], bool]:
    """Whether so many wait, in a backend or (after a reload) on the way to one."""

    async def queued() -> int:
        report = await world.proxy.counters()
        return sum(c.queued for c in report.backends.values()) if report else 0

    return lambda: asyncio.run(queued()) >= count


def exchange(port: int, text: bytes) -> bytes:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as client:
        client.sendall(text)
        return client.recv(4096)


def results(futures: list[Future[tuple[int, str, dict[str, str]]]]) -> list[int]:
    return [future.result()[0] for future in futures]


def test_all_that_wait_go_on_when_there_is_a_server(world: World, pool: ThreadPoolExecutor) -> None:
    world.apply(held())
    with listening(world) as heard:
        futures = [pool.submit(world.get) for _ in range(50)]
        eventually(waiting(world, 50))
        eventually(lambda: "shop.web.80" in heard)
        assert not any(future.done() for future in futures)
        world.apply(held(world.site().server()))
        assert results(futures) == [200] * 50


def test_a_large_body_waits_too(world: World, pool: ThreadPoolExecutor) -> None:
    site = world.site()
    world.apply(held())

    def put() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", world.place.http_port, timeout=20)
        with closing(connection):
            connection.request("GET", "/", b"x" * 300_000, {"Host": "web.localhost"})
            return connection.getresponse().status

    future = pool.submit(put)
    eventually(waiting(world, 1))
    world.apply(held(site.server()))
    assert future.result() == 200


def test_who_has_waited_long_enough_is_told_when_to_come_back(world: World) -> None:
    world.apply(held(seconds=SHORT_SECONDS))
    before = time.monotonic()
    status, _, headers = world.get()
    assert (status, headers["retry-after"]) == (503, "1")
    assert SHORT_SECONDS <= time.monotonic() - before < SHORT_SECONDS + 2


def test_a_reload_loses_nobody_that_waits(world: World, pool: ThreadPoolExecutor) -> None:
    """Whoever waits in the leaving worker goes through the gate to the one that comes."""
    world.apply(held())
    futures = [pool.submit(world.get) for _ in range(10)]
    eventually(waiting(world, 10))
    other = web(name="shop.other.80")
    config = held()
    reloaded = replace(
        config,
        backends=(*config.backends, other),
        routes=(*config.routes, HttpRoute(host="o.localhost", path="/", backend=other.name)),
    )
    world.apply(reloaded)
    eventually(waiting(world, 10))
    ready = held(world.site().server())
    world.apply(replace(reloaded, backends=(*ready.backends, other)))
    assert results(futures) == [200] * 10


def test_who_waits_over_a_reload_may_wait_longer_than_the_route_lets_an_instance_be_silent(
    world: World, pool: ThreadPoolExecutor
) -> None:
    def impatient(*servers: Server, hosts: tuple[str, ...] = ()) -> ProxyConfig:
        config = held(*servers)
        [backend] = config.backends
        more = (HttpRoute(host=host, path="/", backend=backend.name) for host in hosts)
        return ProxyConfig(
            backends=(replace(backend, treatment=Treatment(timeout_seconds=SHORT_SECONDS)),),
            routes=(*config.routes, *more),
        )

    world.apply(impatient())
    future = pool.submit(world.get)
    eventually(waiting(world, 1))
    world.apply(impatient(hosts=("more.localhost",)))
    eventually(waiting(world, 1))
    time.sleep(2 * SHORT_SECONDS)
    world.apply(impatient(world.site().server(), hosts=("more.localhost",)))
    assert future.result()[0] == 200


def test_whom_nobody_hears_is_heard_later(world: World, pool: ThreadPoolExecutor) -> None:
    """A daemon that was away is called again by those who still wait."""
    world.apply(held())
    future = pool.submit(world.get)
    eventually(waiting(world, 1))
    with listening(world) as heard:
        eventually(lambda: bool(heard))
    world.apply(held(world.site().server()))
    assert future.result()[0] == 200


def test_more_than_can_wait_are_told_at_once(world: World) -> None:
    world.apply(held())
    with waiting_connections(world, MOST_HELD):
        eventually(waiting(world, MOST_HELD))
        assert world.get()[0] == 503


@contextmanager
def waiting_connections(world: World, count: int) -> Iterator[None]:
    clients = [socket.create_connection(("127.0.0.1", world.place.http_port)) for _ in range(count)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\nHost: web.localhost\r\n\r\n")
    try:
        yield
    finally:
        for client in clients:
            client.close()


def test_a_service_of_tcp_is_waited_for_too(world: World, pool: ThreadPoolExecutor) -> None:
    port, site = free_port(), world.site()
    world.apply(held_tcp(port))
    text = b"GET /tcp HTTP/1.0\r\n\r\n"
    with listening(world) as heard:
        futures = [pool.submit(exchange, port, text) for _ in range(10)]
        eventually(lambda: "shop.web.80.tcp" in heard)
        eventually(waiting(world, 10))
        world.apply(held_tcp(port, site.server()))
    assert all(b"200" in future.result() for future in futures)


def test_no_tcp_connection_waits_on_beside_a_server(world: World, pool: ThreadPoolExecutor) -> None:
    """HAProxy forgets to wake one of many when its pauses are short."""
    port, site = free_port(), world.site()
    world.apply(held_tcp(port))
    futures = []
    for _ in range(60):
        futures.append(pool.submit(exchange, port, b"GET /tcp HTTP/1.0\r\n\r\n"))
        time.sleep(0.007)
    eventually(waiting(world, 60))
    time.sleep(1.5)
    world.apply(held_tcp(port, site.server()))
    eventually(lambda: all(future.done() for future in futures))
    assert all(b"200" in future.result() for future in futures)


def test_a_reload_loses_no_tcp_connection_that_waits(
    world: World, pool: ThreadPoolExecutor
) -> None:
    port, other, site = free_port(), free_port(), world.site()
    config = held_tcp(port)
    world.apply(config)
    future = pool.submit(exchange, port, b"GET /tcp HTTP/1.0\r\n\r\n")
    eventually(waiting(world, 1))
    [listener] = config.listeners
    listeners = (listener, replace(listener, port=other))
    world.apply(replace(config, listeners=listeners))
    eventually(waiting(world, 1))
    world.apply(replace(held_tcp(port, site.server()), listeners=listeners))
    assert b"200" in future.result()


def test_a_tcp_connection_is_closed_when_its_time_is_over(world: World) -> None:
    port = free_port()
    world.apply(held_tcp(port, seconds=SHORT_SECONDS))
    before = time.monotonic()
    assert exchange(port, b"hello") == b""
    assert SHORT_SECONDS <= time.monotonic() - before < SHORT_SECONDS + 2
