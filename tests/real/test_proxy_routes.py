"""What HAProxy does with requests by their route: headers, limits, maintenance."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from proxy_world import World, free_port, running, web

from vmorch.proxy.access import RING
from vmorch.proxy.admin import CommandLine
from vmorch.proxy.place import Place
from vmorch.proxy.protocol import HttpRoute, ProxyConfig, Treatment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="HAProxy's master runs as root")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    place = Place(config_dir=tmp_path / "c", run_dir=tmp_path / "r", http_port=free_port())
    with running(place) as world:
        yield world


def ask(
    world: World, path: str = "/", *, body: bytes | None = None, **headers: str
) -> tuple[int, str, str | None]:
    """Status, body and Retry-After."""
    connection = http.client.HTTPConnection("127.0.0.1", world.place.http_port, timeout=20)
    with closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, body=body, headers={"Host": "web.localhost", **named})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.getheader("Retry-After")


def treated(world: World, treatment: Treatment) -> None:
    backend = replace(web(world.site("one").server()), treatment=treatment)
    route = HttpRoute(host="web.localhost", path="/", backend=backend.name)
    world.apply(ProxyConfig(backends=(backend,), routes=(route,)))


def test_the_route_with_the_most_headers_that_fit_wins_within_a_path(world: World) -> None:
    names = ("plain", "one", "two", "deep")
    routes = [
        HttpRoute(host="web.localhost", path="/", backend="plain"),
        HttpRoute(host="web.localhost", path="/", backend="one", headers=(("X-A", "1, $2"),)),
        HttpRoute(
            host="web.localhost", path="/", backend="two", headers=(("X-A", "1, $2"), ("x-b", "y"))
        ),
        HttpRoute(host="web.localhost", path="/deep", backend="deep"),
    ]
    backends = tuple(web(world.site(name).server(), name=name) for name in names)
    world.apply(ProxyConfig(backends=backends, routes=tuple(routes)))

    def answering(path: str = "/", **headers: str) -> str:
        return ask(world, path, **headers)[1].split()[0]

    assert answering() == "plain"
    assert answering(x_a="1, $2") == "one"
    assert answering(X_A="1") == "plain"
    assert answering(X_A="1, $2", X_B="y") == "two"
    assert answering(X_A="1, $2", X_B="Y") == "one"
    assert answering("/deep", X_A="1, $2") == "deep"


def test_a_long_body_is_refused_and_one_of_unknown_length_too(world: World) -> None:
    treated(world, Treatment(body_bytes=10))
    assert ask(world)[0] == 200
    assert ask(world, body=b"x" * 10)[0] == 200
    # Only announced: the answer comes without a byte of the body.
    status, text, _ = ask(world, Content_Length="11")
    assert (status, text) == (413, "The body has more than 10 bytes.\n")
    assert ask(world, Content_Length=str(2**32))[0] == 413
    assert ask(world, Transfer_Encoding="chunked")[0] == 411


def test_http2_does_not_get_around_the_limit(world: World) -> None:
    """In HTTP/2 a body may come without any word of its length."""
    treated(world, Treatment(body_bytes=10))
    assert by_http2(world) == b"2 200"
    # HAProxy resets the stream behind its answer, and curl may see that first.
    assert by_http2(world, "-X", "POST", "-T", "-") in {b"2 411", b"0 000"}
    assert by_http2(world, "-d", "12345678901") in {b"2 413", b"0 000"}
    # Let through: this server knows no POST.
    assert by_http2(world, "-d", "1234567890") == b"2 501"


def by_http2(world: World, *options: str) -> bytes:
    """HTTP's version and status of what curl asks, with a body on its standard input."""
    url = f"http://127.0.0.1:{world.place.http_port}/"
    command = ["curl", "-sS", "--noproxy", "*", "--http2-prior-knowledge", *options]
    command += ["-H", "Host: web.localhost", "-o", "/dev/null"]
    command += ["-w", "%{http_version} %{http_code}", url]
    return subprocess.run(command, input=b"x" * 11, capture_output=True, check=False).stdout


def test_a_silent_instance_is_given_up_in_time(world: World) -> None:
    treated(world, Treatment(timeout_seconds=0.3))
    assert ask(world)[0] == 200
    assert ask(world, "/slow")[0] == 504


def test_maintenance_says_its_text_and_asks_nobody(world: World) -> None:
    text = 'It\'s \\n "closed" & costs $HOME #1 %[path] 50% {ü}'
    treated(world, Treatment(maintenance=text))
    assert ask(world, "/any") == (503, f"{text}\n", "60")


def test_what_is_to_be_logged_is_and_survives_a_reload_while_its_worker_does(world: World) -> None:
    site, quiet = world.site("web-1"), world.site("web-2")
    logged = Treatment(logged=True)
    backends = (
        replace(web(site.server(), name="shop.web.80.http.1"), treatment=logged),
        replace(web(name="shop.shut.80.http.1"), treatment=replace(logged, maintenance="Later.")),
        web(quiet.server(), name="shop.quiet.80.http"),
    )
    routes = tuple(
        HttpRoute(host="web.localhost", path=path, backend=backend.name)
        for path, backend in zip(("/", "/shut", "/quiet"), backends, strict=True)
    )
    config = ProxyConfig(backends=backends, routes=routes)
    world.apply(config)
    assert asyncio.run(world.proxy.accesses()) == []
    for path in ('/a"b', "/shut", "/quiet"):
        ask(world, path)
    world.get("/", "nobody.localhost")
    first, second = asyncio.run(world.proxy.accesses())
    assert (first.environment, first.service, first.instance) == ("shop", "web", "web-1")
    assert (first.method, first.host, first.uri) == ("GET", "web.localhost", '/a"b')
    assert (first.status, first.http, first.tls, first.client) == (200, 1, "", "127.0.0.1")
    assert None not in (first.wait_seconds, first.connect_seconds, first.answer_seconds)
    assert 0 <= (first.answer_seconds or 0) <= first.seconds < 10
    assert first.end == "--"
    assert (second.service, second.instance, second.status) == ("shut", None, 503)
    assert second.answer_seconds is None
    times = asyncio.run(world.proxy.answer_times())
    assert list(times) == [("shop", "web")]
    assert len(times["shop", "web"]) == 1
    assert 0 <= times["shop", "web"][0] <= first.seconds
    waiting = threading.Thread(target=ask, args=(world, "/slow"))
    waiting.start()
    assert site.entered.wait(10)
    world.apply(replace(config, routes=routes[:2]))
    ask(world, "/new")
    uris = [line.uri for line in asyncio.run(world.proxy.accesses())]
    assert uris == ['/a"b', "/shut", "/new"]
    assert len(asyncio.run(world.proxy.answer_times())["shop", "web"]) == 2
    site.release.set()
    waiting.join()


def test_who_asks_for_nothing_takes_no_room_in_the_log(world: World) -> None:
    treated(world, Treatment(logged=True))
    for _ in range(5):
        socket.create_connection(("127.0.0.1", world.place.http_port)).close()
    ask(world)
    ring = asyncio.run(CommandLine(world.place.admin_socket).ask(f"show events {RING}"))
    assert ring.count('{"time"') == 1, ring


def test_without_a_log_there_are_no_lines(world: World) -> None:
    assert asyncio.run(world.proxy.accesses()) == []
    treated(world, Treatment())
    ask(world)
    assert asyncio.run(world.proxy.accesses()) == []
