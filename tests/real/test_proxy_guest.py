"""What passes the proxy to a guest: HTTP/1.1 and HTTP/2, plain and by TLS, and WebSockets."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from proxy_world import eventually
from web_socket import Kind, WebSocket, opened

from bench.guest_server import write_context
from bench.lab_daemon import LabDaemon
from vmorch.proxy.place import Place

HOST = "echo.localhost"
COMPOSE = f"""
name: echo
services:
  web:
    build: .
    expose: [8080]
    route: [{{host: {HOST}}}]
    healthcheck: {{test: ["HTTP", "/"], interval: 1s}}
    deploy: {{resources: {{limits: {{cpus: "0.50", memory: 96M}}}}}}
"""


@pytest.fixture(scope="module")
def project(daemon: LabDaemon, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("echo")
    write_context(directory)
    (directory / "compose.yaml").write_text(COMPOSE)
    daemon.cli("up", cwd=directory)
    return directory


@pytest.fixture(scope="module")
def authority(daemon: LabDaemon, project: Path) -> Path:
    file = project / "authority.pem"
    file.write_text(daemon.cli("tls", "ca").stdout)
    return file


@contextmanager
def plain(daemon: LabDaemon) -> Iterator[WebSocket]:
    where = ("127.0.0.1", daemon.settings.http_port)
    with closing(socket.create_connection(where, 30)) as connection:
        yield opened(connection, HOST)


@contextmanager
def by_tls(daemon: LabDaemon, authority: Path) -> Iterator[WebSocket]:
    where = ("127.0.0.1", daemon.settings.https_port)
    context = ssl.create_default_context(cafile=str(authority))
    with (
        closing(socket.create_connection(where, 30)) as below,
        context.wrap_socket(below, server_hostname=HOST) as connection,
    ):
        yield opened(connection, HOST)


def urls(daemon: LabDaemon) -> list[str]:
    """As `vmorch ps` tells them."""
    (row,) = daemon.ps("-p", "echo")
    found: list[str] = row["urls"]
    return found


def curl(url: str, *options: str) -> str:
    """The body, then HTTP's version and status."""
    form = ("-w", "%{http_version} %{http_code}", "--max-time", "30")
    address = url.removesuffix("/").rpartition("//")[2]
    told = ("--noproxy", "*", "--resolve", f"{address}:127.0.0.1")
    done = subprocess.run(
        ["curl", "-sS", *form, *told, *options, url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("plain_option", "tls_option", "version"),
    [("--http1.1", "--http1.1", "1.1"), ("--http2-prior-knowledge", "--http2", "2")],
)
def test_a_guest_is_asked_by_either_version_at_the_addresses_that_are_shown(
    daemon: LabDaemon, authority: Path, plain_option: str, tls_option: str, version: str
) -> None:
    http, https = urls(daemon)
    assert curl(http, plain_option) == f"web-1\n{version} 200"
    assert curl(https, tls_option, "--cacert", str(authority)) == f"web-1\n{version} 200"


def assert_echoes(web_socket: WebSocket) -> None:
    """Each of the three ways in which a frame says how long it is, and the control frames."""
    for length in (5, 126, 70_000):
        message = os.urandom(length)
        assert web_socket.echoed(Kind.BINARY, message) == (Kind.BINARY, message)
    assert web_socket.echoed(Kind.TEXT, "grüß".encode()) == (Kind.TEXT, "grüß".encode())
    assert web_socket.echoed(Kind.PING, b"there?") == (Kind.PONG, b"there?")


def assert_closes(web_socket: WebSocket) -> None:
    """As one that is at its end, not as one that breaks."""
    normal = (1000).to_bytes(2, "big")
    assert web_socket.echoed(Kind.CLOSE, normal) == (Kind.CLOSE, normal)
    with pytest.raises(EOFError):
        web_socket.receive()


def test_a_guest_echoes_over_a_web_socket(daemon: LabDaemon, authority: Path) -> None:
    with plain(daemon) as web_socket:
        assert_echoes(web_socket)
        assert_closes(web_socket)
    with by_tls(daemon, authority) as web_socket:
        assert_echoes(web_socket)
        assert_closes(web_socket)


def workers(daemon: LabDaemon) -> set[int]:
    """Processes of HAProxy that still serve somebody; only the youngest takes new connections."""
    master = int(Place.of(daemon.settings).pid_file.read_text())
    return {child.pid for child in psutil.Process(master).children()}


def test_open_web_sockets_outlive_a_reload_of_the_proxy(
    daemon: LabDaemon, project: Path, authority: Path
) -> None:
    before = workers(daemon)
    with plain(daemon) as first, by_tls(daemon, authority) as second:
        more = COMPOSE.replace(
            f"[{{host: {HOST}}}]", f"[{{host: {HOST}}}, {{host: new.localhost}}]"
        )
        (project / "compose.yaml").write_text(more)
        daemon.cli("up", cwd=project)
        # 'up' waits for instances, and these were ready before.
        eventually(lambda: curl(urls(daemon)[2]) == "web-1\n1.1 200")
        assert len(workers(daemon)) == 2
        assert workers(daemon) > before
        for web_socket in (first, second):
            assert_echoes(web_socket)
            assert_closes(web_socket)
