"""TLS, HTTP/2 and WebSocket through HAProxy, asked by curl and by Python's TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from proxy_world import World, free_port, routed, running, serve_upgrades

from vmorch.effects import SystemClock
from vmorch.proxy.authority import LocalAuthority
from vmorch.proxy.certificates import Certificates
from vmorch.proxy.place import Place
from vmorch.proxy.protocol import AddressUnavailable, HttpRoute, ProxyConfig, Server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="HAProxy's master runs as root")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    place = Place(
        config_dir=tmp_path / "c",
        run_dir=tmp_path / "r",
        http_port=free_port(),
        https_port=free_port(),
    )
    with running(place) as world:
        yield world


def trusted(world: World) -> Path:
    file = world.place.config_dir / "authority.pem"
    file.write_text(Certificates(world.place, SystemClock()).authority())
    return file


def curl(
    world: World, *options: str, authority: Path | None, host: str = "web.localhost"
) -> subprocess.CompletedProcess[str]:
    """Ask `/` of a host by TLS: its body, then a line with HTTP's version and status."""
    trust = ["--cacert", str(authority)] if authority else []
    url = f"https://{host}:{world.place.https_port}/"
    told = ["--resolve", f"{host}:{world.place.https_port}:127.0.0.1", "--max-time", "20"]
    format = ["--write-out", "\n%{http_version} %{http_code}"]
    return subprocess.run(
        ["curl", "-sS", "--noproxy", "*", *told, *trust, *format, *options, url],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("option", "version"), [("--http2", "2"), ("--http1.1", "1.1")])
def test_curl_verifies_with_the_local_authority(world: World, option: str, version: str) -> None:
    world.apply(routed(world.site("one").server()))
    done = curl(world, option, authority=trusted(world))
    body, _, last = done.stdout.rpartition("\n")
    assert (done.returncode, last) == (0, f"{version} 200"), done.stderr
    assert body.startswith("one ")
    assert "'x-forwarded-proto': 'https'" in body
    assert "'x-forwarded-proto': 'http'" in world.get()[1]


def test_nobody_else_is_believed_and_no_other_name_is_answered(world: World) -> None:
    world.apply(routed(world.site().server()))
    assert "certificate" in curl(world, authority=None).stderr
    assert curl(world, authority=trusted(world), host="other.localhost").returncode == 35


def test_a_given_certificate_is_presented_as_soon_as_it_is_there(world: World) -> None:
    config = ProxyConfig(
        backends=routed(world.site("shop").server()).backends,
        routes=(HttpRoute(host="shop.example", path="/", backend="shop.web.80"),),
    )
    world.apply(config)
    assert curl(world, authority=trusted(world), host="shop.example").returncode == 7
    theirs = LocalAuthority(world.place.config_dir / "theirs")
    now = SystemClock().now()
    theirs.issue("shop.example", world.place.tls_dir / "given/shop.pem", now)
    world.apply(config)
    with closing(socket.create_connection(("127.0.0.1", world.place.https_port), 10)) as plain:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain, server_hostname="shop.example") as shown:
            presented = ssl.DER_cert_to_PEM_cert(shown.getpeercert(binary_form=True) or b"")
    assert presented.strip() in (world.place.tls_dir / "given/shop.pem").read_text()


def test_an_expired_given_certificate_wins_over_nothing(world: World) -> None:
    config = routed(world.site("one").server())
    theirs = LocalAuthority(world.place.config_dir / "theirs")
    long_ago = SystemClock().now() - 500 * 86400.0
    theirs.issue("web.localhost", world.place.tls_dir / "given/old.pem", long_ago)
    world.apply(config)
    assert curl(world, authority=trusted(world)).returncode == 0


def test_a_check_leaves_the_certificates_alone(world: World) -> None:
    world.apply(routed(world.site().server()))
    files = {file: file.stat().st_mtime_ns for file in world.place.tls_dir.rglob("*")}
    asyncio.run(world.proxy.check(ProxyConfig()))
    assert {file: file.stat().st_mtime_ns for file in world.place.tls_dir.rglob("*")} == files


def test_a_web_socket_echoes_by_tls(world: World) -> None:
    echo = socket.create_server(("127.0.0.1", 0))
    world.stack.callback(echo.close)
    threading.Thread(target=serve_upgrades, args=(echo,), daemon=True).start()
    server = Server(name="ws", id=1, address="127.0.0.1", port=echo.getsockname()[1], admitted=True)
    world.apply(routed(server))
    context = ssl.create_default_context(cafile=str(trusted(world)))
    plain = socket.create_connection(("127.0.0.1", world.place.https_port), 10)
    with closing(plain), context.wrap_socket(plain, server_hostname="web.localhost") as client:
        client.sendall(
            b"GET /ws HTTP/1.1\r\nHost: web.localhost\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 101")
        client.sendall(b"\x81\x05hello")
        assert client.recv(4096) == b"\x81\x05hello"


def test_a_taken_tls_port_that_nothing_needs_is_no_trouble(world: World) -> None:
    """Without a certificate nothing is answered by TLS."""
    config = routed(world.site().server())
    [route] = config.routes
    with closing(socket.create_server(("127.0.0.1", world.place.https_port))):
        for host in ("a.example", "b.example"):
            world.apply(replace(config, routes=(replace(route, host=host),)))
    assert world.get(host="b.example")[0] == 200


def test_a_taken_tls_port_is_named(world: World) -> None:
    where = ("127.0.0.1", world.place.https_port)
    with closing(socket.create_server(where)), pytest.raises(AddressUnavailable) as caught:
        world.apply(routed(world.site().server()))
    assert f"127.0.0.1:{world.place.https_port}" in caught.value.message
