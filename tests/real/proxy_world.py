"""Small servers on loopback and a HAProxy in front of them, for the tests of the proxy."""

from __future__ import annotations

import asyncio
import http.client
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from vmorch.effects import NoFaults, SystemClock
from vmorch.proxy.haproxy import HAProxy
from vmorch.proxy.place import Place
from vmorch.proxy.protocol import Backend, Check, HttpRoute, Mode, ProxyConfig, Server

LOAD_SECONDS = 3


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        if self.path == "/health":
            return self._answer("ok" if site.healthy else "ill", 200 if site.healthy else 503)
        if self.path == "/slow":
            site.entered.set()
            site.release.wait(20)
        forwarded = {
            key.lower(): value
            for key, value in self.headers.items()
            if key.lower().startswith("x-")
        }
        return self._answer(f"{site.name} {self.path} {forwarded}", 200)

    def _answer(self, text: str, status: int) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connections: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client or the proxy went away: what these tests are about, and not worth a word."""


@dataclass
class Site:
    """One instance: an HTTP server on loopback that says its name."""

    name: str
    id: int
    healthy: bool = True
    entered: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.http = QuietServer(("127.0.0.1", 0), Handler)
        self.http.site = self  # type: ignore[attr-defined]
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.http.server_address[1])

    def server(self, *, admitted: bool = True) -> Server:
        return Server(
            name=self.name, id=self.id, address="127.0.0.1", port=self.port, admitted=admitted
        )

    def close(self) -> None:
        """As a guest that is shut down: nobody listens, and connections are closed."""
        self.release.set()
        self.http.shutdown()
        for connection in self.http.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.http.server_close()


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return int(taken.getsockname()[1])


@dataclass
class World:
    place: Place
    proxy: HAProxy
    stack: ExitStack
    sites: int = 0

    def site(self, name: str = "") -> Site:
        self.sites += 1
        made = Site(name or f"web-{self.sites}", self.sites)
        self.stack.callback(made.close)
        return made

    def apply(self, config: ProxyConfig) -> None:
        asyncio.run(self.proxy.apply(config))

    def another(self) -> HAProxy:
        """What a restarted daemon makes."""
        return HAProxy(self.place, clock=SystemClock(), faults=NoFaults())

    def get(self, path: str = "/", host: str = "web.localhost") -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.place.http_port, timeout=20)
        with closing(connection):
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            headers = {key.lower(): value for key, value in answer.getheaders()}
            return answer.status, answer.read().decode(), headers

    def load(self) -> subprocess.Popen[str]:
        """Bounded: 8 connections for three seconds."""
        command = ["wrk", "-t1", "-c8", f"-d{LOAD_SECONDS}s", "-H", "Host: web.localhost"]
        return subprocess.Popen(
            [*command, f"http://127.0.0.1:{self.place.http_port}/"],
            stdout=subprocess.PIPE,
            text=True,
        )


@contextmanager
def running(place: Place) -> Iterator[World]:
    proxy = HAProxy(place, clock=SystemClock(), faults=NoFaults())
    with ExitStack() as stack:
        stack.callback(lambda: asyncio.run(proxy.stop()))
        yield World(place=place, proxy=proxy, stack=stack)


@contextmanager
def running_by_itself() -> Iterator[World]:
    """In a directory that HAProxy's user may pass through."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        place = Place(config_dir=Path(name, "c"), run_dir=Path(name, "r"), http_port=free_port())
        with running(place) as world:
            yield world


def web(*servers: Server, check: Check | None = None, name: str = "shop.web.80") -> Backend:
    return Backend(name=name, mode=Mode.HTTP, servers=servers, check=check)


def plain(*servers: Server) -> Backend:
    return Backend(name="shop.web.80.tcp", mode=Mode.TCP, servers=servers, check=None)


def routed(*servers: Server, check: Check | None = None) -> ProxyConfig:
    return ProxyConfig(
        backends=(web(*servers, check=check),),
        routes=(HttpRoute(host="web.localhost", path="/", backend="shop.web.80"),),
    )


def eventually(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def serve_upgrades(listener: socket.socket) -> None:
    with suppress(OSError):
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        while data := connection.recv(4096):
            connection.sendall(data)
