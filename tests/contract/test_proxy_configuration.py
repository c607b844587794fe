"""haproxy.cfg against golden files, and against HAProxy's own parser.

`VMORCH_GOLDEN=write pytest …` writes the golden files anew; read the difference before a commit.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from vmorch.effects import SystemClock
from vmorch.model.compose.quantities import MOST_BODY_BYTES, MOST_HEADERS, MOST_MAINTENANCE
from vmorch.proxy import holding
from vmorch.proxy.certificates import Certificates
from vmorch.proxy.configuration import render
from vmorch.proxy.place import Place
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

GOLDEN = Path(__file__).parent / "golden" / "proxy"
PLACE = Place(config_dir=Path("/var/lib/vmorch/proxy"), run_dir=Path("/run/vmorch/proxy"))


def server(name: str, number: int, port: int, *, admitted: bool = True) -> Server:
    return Server(
        name=f"{name}-{number}",
        id=number,
        address=f"10.213.0.{63 + number}",
        port=port,
        admitted=admitted,
    )


HTTP_CHECK = Check(path="/healthz?full=1", port=8080, interval_seconds=2.5, retries=3)
TCP_CHECK = Check(path=None, port=5432, interval_seconds=0.5, retries=0)
ORDERS = Backend(
    name="shop.orders.8080",
    mode=Mode.HTTP,
    servers=(
        server("orders", 3, 8080),
        server("orders", 1, 8080),
        server("orders", 2, 8080, admitted=False),
    ),
    check=HTTP_CHECK,
)
DATABASE = Backend(
    name="shop.data_base.5432",
    mode=Mode.TCP,
    servers=(replace(server("data_base", 1, 5432), weight=50),),
    check=TCP_CHECK,
)
ECHO = Backend(
    name="shop.orders.8080.tcp",
    mode=Mode.TCP,
    servers=(server("orders", 1, 8080),),
    check=HTTP_CHECK,
)
IDLE = Backend(name="shop.idle.80", mode=Mode.HTTP, servers=(), check=None)

HELD = ProxyConfig(
    backends=(
        replace(ORDERS, hold_seconds=30.0),
        replace(ECHO, hold_seconds=30.0),
        DATABASE,
    ),
    listeners=(Listener(address="127.0.0.1", port=9000, namespace=None, backend=ECHO.name),),
    routes=(HttpRoute(host="orders.localhost", path="/", backend=ORDERS.name),),
)

CONFIGS = {
    "held": HELD,
    "empty": ProxyConfig(),
    "broad": ProxyConfig(
        backends=(ORDERS, IDLE, DATABASE, ECHO),
        listeners=(
            Listener(address="10.212.0.3", port=5432, namespace="f00ba4-r0", backend=DATABASE.name),
            Listener(address="10.212.0.2", port=8080, namespace="f00ba4-r0", backend=ECHO.name),
            Listener(address="10.212.0.2", port=8080, namespace="f00ba4-r255", backend=ECHO.name),
            Listener(address="127.0.0.1", port=5432, namespace=None, backend=DATABASE.name),
            Listener(address="0.0.0.0", port=9000, namespace=None, backend=ECHO.name),
            Listener(address="::1", port=5432, namespace=None, backend=DATABASE.name),
        ),
        routes=(
            HttpRoute(host="Orders.localhost", path="/", backend=ORDERS.name),
            HttpRoute(host="orders.localhost", path="/idle/", backend=IDLE.name),
            HttpRoute(host="orders.localhost", path="/idle/not", backend=ORDERS.name),
            HttpRoute(host="a-b.shop.localhost", path='/~x;#"$a{}%20', backend=ORDERS.name),
        ),
    ),
}

CONFIGS["proxied"] = ProxyConfig(
    backends=(replace(DATABASE, send_proxy=True),),
    listeners=(
        Listener(
            address="127.0.0.1",
            port=5432,
            namespace=None,
            backend=DATABASE.name,
            accept_proxy=True,
        ),
    ),
)
CONFIGS["treated"] = ProxyConfig(
    backends=(
        ORDERS,
        replace(
            ORDERS,
            name="shop.orders.8080.1",
            treatment=Treatment(timeout_seconds=1.5, body_bytes=1024, logged=True),
        ),
        replace(
            IDLE,
            name="shop.orders.8080.2",
            treatment=Treatment(maintenance='It\'s \\n "closed" & costs $HOME #1 %[path] 50% {ü}'),
        ),
    ),
    routes=(
        HttpRoute(host="orders.localhost", path="/", backend=ORDERS.name),
        HttpRoute(
            host="orders.localhost",
            path="/",
            backend="shop.orders.8080.1",
            headers=(("X-Canary", "yes please"), ("x-b", '"${1}')),
        ),
        HttpRoute(host="orders.localhost", path="/closed", backend="shop.orders.8080.2"),
    ),
)

LONGEST = "a" * 1000
CONFIGS["longest"] = ProxyConfig(
    backends=(
        replace(
            ORDERS,
            check=replace(HTTP_CHECK, path=f"/{LONGEST}"),
            treatment=Treatment(timeout_seconds=7 * 86400.0, body_bytes=MOST_BODY_BYTES),
        ),
        replace(IDLE, treatment=Treatment(maintenance="ü" * MOST_MAINTENANCE)),
    ),
    routes=(
        HttpRoute(
            host=".".join(["a" * 63] * 4),
            path=f"/{LONGEST}",
            backend=ORDERS.name,
            headers=tuple((f"X-{n}-{LONGEST[:90]}", " {" * 100) for n in range(MOST_HEADERS)),
        ),
        HttpRoute(host="a.localhost", path="/", backend=IDLE.name),
    ),
)


def namespaces(config: ProxyConfig) -> list[str]:
    return sorted({item.namespace for item in config.listeners if item.namespace})


def text_of(name: str) -> str:
    config = CONFIGS[name]
    inodes = {item: 4026532000 + at for at, item in enumerate(namespaces(config))}
    return render(config, PLACE, namespaces=inodes).text


@pytest.mark.parametrize("name", CONFIGS)
def test_the_text_is_the_golden_one(name: str) -> None:
    file = GOLDEN / f"{name}.cfg"
    if os.environ.get("VMORCH_GOLDEN") == "write":
        file.write_text(text_of(name))
    assert text_of(name) == file.read_text()


@pytest.mark.parametrize("name", CONFIGS)
def test_haproxy_accepts_it_without_a_warning(name: str, tmp_path: Path) -> None:
    file, held = tmp_path / "haproxy.cfg", tmp_path / "hold.lua"
    held.write_text(holding.program())
    file.write_text(text_of(name).replace(str(PLACE.hold_program), str(held)))
    # HAProxy opens namespaces already when it only checks, so they are made, in private.
    make = [f"ip netns add {item}" for item in namespaces(CONFIGS[name])]
    script = "; ".join(["set -e", "mount -t tmpfs tmpfs /run", *make, f"haproxy -c -f {file}"])
    user = [] if os.geteuid() == 0 else ["-r"]
    done = subprocess.run(
        ["unshare", *user, "-n", "-m", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_with_certificates_routes_answer_by_tls_too(tmp_path: Path) -> None:
    place = replace(PLACE, https_port=8443)
    text = render(CONFIGS["broad"], place, certificates="0123456789abcdef").text
    file = GOLDEN / "tls.cfg"
    if os.environ.get("VMORCH_GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()
    assert render(CONFIGS["broad"], place).text == render(CONFIGS["broad"], PLACE).text


def test_haproxy_accepts_the_certificates(tmp_path: Path) -> None:
    place = Place(config_dir=tmp_path, run_dir=tmp_path, https_port=8443)
    digest = Certificates(place, SystemClock()).ensure(["orders.localhost"])
    config = replace(CONFIGS["broad"], listeners=())
    place.config_file.write_text(render(config, place, certificates=digest).text)
    done = subprocess.run(
        ["haproxy", "-c", "-f", place.config_file], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_order_of_what_is_equal_does_not_matter() -> None:
    broad = CONFIGS["broad"]
    turned = ProxyConfig(
        backends=tuple(
            replace(backend, servers=backend.servers[::-1]) for backend in broad.backends[::-1]
        ),
        listeners=broad.listeners[::-1],
        routes=broad.routes[::-1],
    )
    assert render(turned, PLACE) == render(broad, PLACE)


def test_a_slash_at_the_end_makes_no_path_longer() -> None:
    slash = HttpRoute(host="a.localhost", path="/api/", backend=IDLE.name)
    plain = HttpRoute(host="a.localhost", path="/api", backend=ORDERS.name, headers=(("x-a", "1"),))
    text = render(ProxyConfig(backends=(ORDERS, IDLE), routes=(slash, plain)), PLACE).text
    assert text.index(f"use_backend {ORDERS.name} if") < text.index(f"use_backend {IDLE.name} if")


def test_the_marker_is_of_the_structure_and_not_of_the_servers() -> None:
    broad = CONFIGS["broad"]
    marker = render(broad, PLACE).marker
    fewer = replace(broad, backends=(replace(ORDERS, servers=()), IDLE, DATABASE, ECHO))
    other_check = replace(ORDERS, check=replace(HTTP_CHECK, interval_seconds=3))
    assert render(fewer, PLACE).marker == marker
    for changed in (
        replace(broad, backends=(other_check, IDLE, DATABASE, ECHO)),
        replace(broad, listeners=broad.listeners[1:]),
        replace(broad, routes=broad.routes[1:]),
    ):
        assert render(changed, PLACE).marker != marker
    assert render(broad, replace(PLACE, http_port=8081)).marker != marker
    assert render(broad, PLACE, namespaces={"f00ba4-r0": 1}).marker != marker
    assert render(broad, PLACE, certificates="0123456789abcdef").marker != marker


def test_the_check_of_a_backend_without_servers_counts_too() -> None:
    """A server added later is checked as the backend was first written to be."""
    idle = ProxyConfig(backends=(replace(IDLE, check=TCP_CHECK),))
    slower = ProxyConfig(backends=(replace(IDLE, check=replace(TCP_CHECK, interval_seconds=9)),))
    assert render(idle, PLACE).marker != render(slower, PLACE).marker
