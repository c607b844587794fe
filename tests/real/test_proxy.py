"""HAProxy itself, between small servers and clients on loopback; nothing leaves the host.

Needs root. Runs in the lab or outside; what it makes is named by its process and removed.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from proxy_world import (
    Site,
    World,
    eventually,
    free_port,
    plain,
    routed,
    running,
    serve_upgrades,
    web,
)

from vmorch.effects import NoFaults, SystemClock
from vmorch.errors import ProxyError
from vmorch.proxy.haproxy import HAProxy
from vmorch.proxy.place import Place
from vmorch.proxy.protocol import (
    AddressUnavailable,
    Check,
    Endpoint,
    HttpRoute,
    Listener,
    ProxyConfig,
    Server,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="HAProxy's master runs as root")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    place = Place(config_dir=tmp_path / "c", run_dir=tmp_path / "r", http_port=free_port())
    with running(place) as world:
        yield world


def assert_no_failures(load: subprocess.Popen[str]) -> None:
    output, _ = load.communicate(timeout=30)
    assert "requests in" in output
    assert "Socket errors" not in output, output
    assert "Non-2xx" not in output, output


def test_routes_by_host_and_longest_path(world: World) -> None:
    root, api, other = world.site("root"), world.site("api"), world.site("other")
    world.apply(
        ProxyConfig(
            backends=(
                web(root.server(), name="a.root.80"),
                web(api.server(), name="a.api.80"),
                web(other.server(), name="b.other.80"),
            ),
            routes=(
                HttpRoute(host="web.localhost", path="/", backend="a.root.80"),
                HttpRoute(host="web.localhost", path="/api", backend="a.api.80"),
                HttpRoute(host="other.localhost", path="/only", backend="b.other.80"),
            ),
        )
    )

    def answering(path: str, host: str) -> str:
        return world.get(path, host)[1].split()[0]

    assert answering("/", "web.localhost") == "root"
    assert answering("/apix", "WEB.LocalHost:8080") == "root"
    assert answering("/api", "web.localhost.") == "api"
    assert answering("/api/v1?x=/", "web.localhost:80") == "api"
    assert answering("/only/this", "other.localhost") == "other"
    for path, host in (("/", "other.localhost"), ("/", "web.localhost.evil"), ("/", "")):
        status, text, headers = world.get(path, host)
        assert (status, headers["content-type"]) == (404, "text/plain")
        assert f"no route for {host}{path}" in text
    _, text, _ = world.get("/", "web.localhost")
    assert "'x-forwarded-for': '127.0.0.1'" in text
    assert "'x-forwarded-proto': 'http'" in text
    assert "'x-forwarded-host': 'web.localhost'" in text


def test_without_an_admitted_server_a_route_answers_503_and_retry_after(world: World) -> None:
    site = world.site()
    world.apply(routed(site.server(admitted=False)))
    status, text, headers = world.get()
    assert (status, headers["retry-after"]) == (503, "1")
    assert "shop.web.80" in text
    world.apply(routed(site.server()))
    assert world.get()[0] == 200
    world.apply(routed())
    assert world.get()[0] == 503


def test_server_changes_under_load_need_no_reload_and_fail_nothing(world: World) -> None:
    first = world.site()
    world.apply(routed(first.server()))
    worker = workers(world)
    load = world.load()
    sites = [first]
    for _ in range(5):
        sites.append(world.site())
        world.apply(routed(*(site.server() for site in sites)))
        time.sleep(0.1)
        drained = [sites[0].server(admitted=False), *(site.server() for site in sites[1:])]
        world.apply(routed(*drained))
        key = ("shop.web.80", sites[0].name)
        eventually(lambda key=key: asyncio.run(world.proxy.status())[key].sessions == 0)
        sites.pop(0)
        world.apply(routed(*(site.server() for site in sites)))
    assert_no_failures(load)
    assert workers(world) == worker
    written = world.place.config_file.read_text()
    assert [f"server {site.name} " in written for site in (first, *sites)] == [False, True]
    world.apply(routed(*(site.server() for site in sites)))
    eventually(lambda: set(asyncio.run(world.proxy.status())) == {("shop.web.80", sites[0].name)})


def test_a_server_moves_to_another_port_and_address_at_run_time(world: World) -> None:
    one, two = world.site("one"), world.site("two")
    world.apply(routed(one.server()))
    worker = workers(world)
    moved = replace(one.server(), port=two.port)
    world.apply(routed(moved))
    assert world.get()[1].split()[0] == "two"
    world.apply(routed(replace(one.server(), address="127.0.0.2")))
    assert world.get()[0] == 503
    world.apply(routed(replace(moved, weight=7)))
    assert world.get()[1].split()[0] == "two"
    assert workers(world) == worker


def test_reloads_under_load_fail_nothing(world: World) -> None:
    one, two = world.site(), world.site()
    config = routed(one.server(), two.server())
    config = replace(config, backends=(*config.backends, plain(one.server(), two.server())))
    world.apply(config)
    before = workers(world)
    load = world.load()
    for _ in range(4):
        listener = Listener(
            address="127.0.0.1", port=free_port(), namespace=None, backend="shop.web.80.tcp"
        )
        config = replace(config, listeners=(*config.listeners, listener))
        world.apply(config)
        time.sleep(0.1)
    assert_no_failures(load)
    assert not before & workers(world)
    assert name_through(listener.port) in {one.name, two.name}


def test_drain_lets_a_request_finish_and_sends_new_ones_elsewhere(world: World) -> None:
    old, new = world.site("old"), world.site("new")
    world.apply(routed(old.server()))
    answers: list[tuple[int, str, dict[str, str]]] = []
    request = threading.Thread(target=lambda: answers.append(world.get("/slow")))
    request.start()
    assert old.entered.wait(10)
    world.apply(routed(old.server(admitted=False), new.server()))
    assert {world.get()[1].split()[0] for _ in range(6)} == {"new"}
    key = ("shop.web.80", "old")
    assert asyncio.run(world.proxy.status())[key].sessions == 1
    world.apply(  # the same seen through a reload: the leaving worker has the session
        ProxyConfig(
            backends=(web(old.server(admitted=False), new.server()),),
            routes=(
                HttpRoute(host="web.localhost", path="/", backend="shop.web.80"),
                HttpRoute(host="more.localhost", path="/", backend="shop.web.80"),
            ),
        )
    )
    assert asyncio.run(world.proxy.status())[key].sessions == 1
    assert {world.get()[1].split()[0] for _ in range(6)} == {"new"}
    old.release.set()
    request.join(10)
    assert [status for status, _, _ in answers] == [200]
    eventually(lambda: asyncio.run(world.proxy.status())[key].sessions == 0)


def test_an_idle_client_of_a_leaving_worker_is_answered_though_its_server_has_gone(
    world: World,
) -> None:
    old, new = world.site("old"), world.site("new")
    config = routed(old.server(), new.server())
    world.apply(config)
    clients = [http.client.HTTPConnection("127.0.0.1", world.place.http_port) for _ in range(4)]

    def ask(client: http.client.HTTPConnection) -> str:
        client.request("GET", "/", headers={"Host": "web.localhost"})
        return client.getresponse().read().decode().split()[0]

    with ExitStack() as stack:
        for client in clients:
            stack.callback(client.close)
        assert {ask(client) for client in clients} == {"old", "new"}
        more = HttpRoute(host="more.localhost", path="/", backend="shop.web.80")
        world.apply(replace(routed(new.server()), routes=(*config.routes, more)))
        old.close()
        assert {ask(client) for client in clients} == {"new"}


def test_a_removed_server_with_connections_is_left_to_a_later_apply(world: World) -> None:
    old, new = world.site("old"), world.site("new")
    world.apply(routed(old.server(), new.server()))
    threads = [threading.Thread(target=world.get, args=("/slow",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert old.entered.wait(10)
    assert new.entered.wait(10)
    world.apply(routed(new.server()))
    assert ("shop.web.80", "old") in asyncio.run(world.proxy.status())
    assert {world.get()[1].split()[0] for _ in range(4)} == {"new"}
    old.release.set()
    new.release.set()
    for thread in threads:
        thread.join(10)

    def gone() -> bool:
        world.apply(routed(new.server()))
        return ("shop.web.80", "old") not in asyncio.run(world.proxy.status())

    eventually(gone)


def test_a_closed_servers_sessions_end_and_it_can_come_back(world: World) -> None:
    """As before its guest's memory is saved: the guest could not close them any more."""
    site = world.site("old")
    world.apply(routed(site.server()))
    answers: list[int] = []
    request = threading.Thread(target=lambda: answers.append(world.get("/slow")[0]))
    request.start()
    assert site.entered.wait(10)
    closed = routed(replace(site.server(admitted=False), closed=True))
    world.apply(closed)
    request.join(10)
    assert not request.is_alive()
    assert answers[0] >= 500
    world.apply(closed)
    assert world.get()[0] == 503
    site.release.set()
    world.apply(routed(site.server()))
    assert world.get()[0] == 200


@pytest.mark.parametrize("victim", ["master", "worker"])
def test_killed_it_is_started_again(world: World, victim: str) -> None:
    config = routed(world.site().server())
    world.apply(config)
    pid = int(world.place.pid_file.read_text())
    os.kill(pid if victim == "master" else min(workers(world)), signal.SIGKILL)
    eventually(lambda: not asyncio.run(world.proxy.running()))
    assert asyncio.run(world.proxy.status()) == {}
    world.apply(config)
    assert world.get()[0] == 200


def test_a_restarted_daemon_adopts_it(world: World) -> None:
    one, two = world.site("one"), world.site("two")
    world.apply(routed(one.server()))
    pid, worker = world.place.pid_file.read_text(), workers(world)
    asyncio.run(world.another().apply(routed(one.server(), two.server())))
    world.place.pid_file.unlink()
    asyncio.run(world.another().apply(routed(one.server(), two.server())))
    assert (world.place.pid_file.read_text(), workers(world)) == (pid, worker)
    assert {world.get()[1].split()[0] for _ in range(6)} == {"one", "two"}


@pytest.mark.parametrize("lost", ["admin.sock", "master.sock"])
def test_a_removed_socket_is_made_again(world: World, lost: str) -> None:
    one, two = world.site("one"), world.site("two")
    world.apply(routed(one.server()))
    for _ in range(10):  # a new master replaces itself once, and makes its socket once more
        (world.place.run_dir / lost).unlink(missing_ok=True)
        time.sleep(0.05)
    asyncio.run(world.proxy.status())
    config = routed(two.server(), check=check_of(two))
    world.apply(config)
    assert world.get()[1].split()[0] == "two"
    assert (world.place.run_dir / lost).exists()
    assert set(asyncio.run(world.another().status())) == {("shop.web.80", "two")}


class Killed(Exception):
    pass


@dataclass
class KillAt:
    point: str

    async def at(self, point: str) -> None:
        if point == self.point:
            raise Killed


@pytest.mark.parametrize(
    "point", ["proxy.written", "proxy.started", "proxy.reloading", "proxy.changed"]
)
def test_after_a_kill_between_two_steps_the_next_apply_converges(world: World, point: str) -> None:
    one, two = world.site("one"), world.site("two")
    dying = HAProxy(world.place, clock=SystemClock(), faults=KillAt(point))
    grown = ProxyConfig(
        backends=(web(one.server(), two.server(), check=check_of(one)),),
        routes=(HttpRoute(host="web.localhost", path="/new", backend="shop.web.80"),),
    )
    for config in (
        routed(one.server()),
        routed(one.server(), two.server()),
        routed(two.server()),
        grown,
    ):
        with suppress(Killed):
            asyncio.run(dying.apply(config))
        asyncio.run(world.another().apply(config))
        names = {server.name for server in config.backends[0].servers}
        answered = {world.get("/new")[1].split()[0] for _ in range(6)}
        assert answered == names
        assert {name for _, name in asyncio.run(world.proxy.status())} == names


def check_of(site: Site) -> Check:
    return Check(path="/health", port=site.port, interval_seconds=0.1, retries=2)


def test_a_check_takes_a_server_away_and_gives_it_back(world: World) -> None:
    ill, good = world.site("ill"), world.site("good")
    config = ProxyConfig(
        backends=(
            web(ill.server(), check=check_of(ill), name="a.ill.80"),
            web(good.server(), check=check_of(good), name="a.good.80"),
        ),
        routes=(
            HttpRoute(host="ill.localhost", path="/", backend="a.ill.80"),
            HttpRoute(host="good.localhost", path="/", backend="a.good.80"),
        ),
    )
    world.apply(config)
    ill.healthy = False
    eventually(lambda: world.get(host="ill.localhost")[0] == 503)
    status = asyncio.run(world.proxy.status())
    assert [status["a.ill.80", "ill"].up, status["a.good.80", "good"].up] == [False, True]
    ill.healthy = True
    eventually(lambda: world.get(host="ill.localhost")[0] == 200)


def test_a_server_added_at_run_time_is_checked_too(world: World) -> None:
    one, late = world.site("one"), world.site("late")
    check = check_of(late)
    world.apply(routed(one.server(), check=check))
    world.apply(routed(one.server(), late.server(), check=check))
    late.healthy = False
    eventually(lambda: not asyncio.run(world.proxy.status())["shop.web.80", "late"].up)


def test_a_refused_configuration_leaves_the_old_one_serving(world: World) -> None:
    site = world.site()
    good = routed(site.server())
    world.apply(good)
    text, worker = world.place.config_file.read_text(), workers(world)
    place = replace(world.place, user="nobody-of-that-name")
    with pytest.raises(ProxyError, match=r"HAProxy refuses the new .* cannot find user id"):
        asyncio.run(HAProxy(place, clock=SystemClock(), faults=NoFaults()).apply(good))
    assert (world.place.config_file.read_text(), workers(world)) == (text, worker)
    assert world.get()[0] == 200
    world.apply(good)


def test_a_check_tells_what_would_be_refused_and_changes_nothing(world: World) -> None:
    site = world.site()
    config = routed(site.server())
    world.apply(config)
    files = {file: file.read_text() for file in world.place.config_dir.iterdir()}
    worker = workers(world)
    asyncio.run(world.proxy.check(routed()))
    asyncio.run(world.proxy.check(ProxyConfig()))
    place = replace(world.place, group="nobody-of-that-name")
    with pytest.raises(ProxyError, match="cannot find group id"):
        asyncio.run(HAProxy(place, clock=SystemClock(), faults=NoFaults()).check(config))
    assert {file: file.read_text() for file in world.place.config_dir.iterdir()} == files
    assert workers(world) == worker
    assert world.get()[0] == 200


def test_a_taken_port_is_named_with_its_holder_and_hinders_nothing_else(world: World) -> None:
    one, two = world.site("one"), world.site("two")
    good = routed(one.server())
    world.apply(good)
    text = world.place.config_file.read_text()
    # Also one that would share it: HAProxy must not take half of somebody's connections.
    with closing(socket.create_server(("127.0.0.1", 0), reuse_port=True)) as holder:
        port = holder.getsockname()[1]
        taken = Listener(address="127.0.0.1", port=port, namespace=None, backend="shop.web.80.tcp")
        wanted = ProxyConfig(
            backends=(
                web(one.server(), name="a.new.80"),  # which the running worker does not know
                web(one.server(admitted=False), two.server()),
                plain(two.server()),
            ),
            routes=good.routes,
            listeners=(taken,),
        )
        with pytest.raises(AddressUnavailable) as caught:
            world.apply(wanted)
        assert f"127.0.0.1:{port}" in caught.value.message
        assert f"process {os.getpid()}" in caught.value.message
        assert caught.value.endpoints == (Endpoint(address="127.0.0.1", port=port),)
        assert {world.get()[1].split()[0] for _ in range(4)} == {"two"}
        assert world.place.config_file.read_text() == text
    world.apply(wanted)
    assert name_through(port) == "two"


def test_a_taken_port_costs_no_connection_of_others(world: World) -> None:
    """A reload that fails has HAProxy refuse everything for two seconds: it must not be tried."""
    site, open_port = world.site("one"), free_port()
    listener = Listener(
        address="127.0.0.1", port=open_port, namespace=None, backend="shop.web.80.tcp"
    )
    good = ProxyConfig(backends=(plain(site.server()),), listeners=(listener,))
    world.apply(good)
    over, refused = threading.Event(), []

    def connect() -> None:
        while not over.wait(0.005):
            try:
                name_through(open_port)
            except OSError as error:
                refused.append(error)

    client = threading.Thread(target=connect)
    client.start()
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        taken = replace(listener, port=holder.getsockname()[1])
        for _ in range(3):
            with pytest.raises(AddressUnavailable):
                world.apply(replace(good, listeners=(listener, taken)))
            world.apply(good)
    over.set()
    client.join()
    assert not refused


def test_who_has_the_port_of_the_routes_costs_no_other_traffic(world: World) -> None:
    site = world.site("one")
    listener = Listener(
        address="127.0.0.1", port=free_port(), namespace=None, backend="shop.web.80.tcp"
    )
    config = routed(site.server())
    config = replace(
        config, backends=(*config.backends, plain(site.server())), listeners=(listener,)
    )
    with closing(socket.create_server(("127.0.0.1", world.place.http_port))):
        with pytest.raises(AddressUnavailable, match="which") as caught:
            world.apply(config)
        assert "'http_port'" in (caught.value.hint or "")
        world.apply(config.without(caught.value.endpoints))
        assert name_through(listener.port) == "one"
    world.apply(config)
    assert world.get()[1].split()[0] == "one"


def test_a_listener_where_routes_are_answered_is_refused(world: World) -> None:
    config = routed(world.site().server())
    world.apply(config)
    meeting = Listener(
        address="127.0.0.1",
        port=world.place.http_port,
        namespace=None,
        backend="shop.web.80.tcp",
    )
    with pytest.raises(AddressUnavailable, match="where it answers routes"):
        world.apply(replace(config, backends=(*config.backends, plain()), listeners=(meeting,)))
    assert world.get()[0] == 200


def test_a_taken_port_at_the_first_start_and_an_address_nobody_has(world: World) -> None:
    good = routed(world.site().server())
    foreign = Listener(address="192.0.2.1", port=80, namespace=None, backend="shop.web.80.tcp")
    with (
        closing(socket.create_server(("127.0.0.1", world.place.http_port))),
        pytest.raises(AddressUnavailable, match=r"cannot listen on 127.0.0.1:\d+, which"),
    ):
        world.apply(good)
    with pytest.raises(AddressUnavailable, match=r"192.0.2.1:80, an address that nobody has"):
        world.apply(ProxyConfig(backends=(plain(),), listeners=(foreign,)))
    world.apply(good)
    assert world.get()[0] == 200


def test_stop_leaves_no_process_and_no_file(world: World) -> None:
    world.apply(routed(world.site().server()))
    pids = {int(world.place.pid_file.read_text()), *workers(world)}
    asyncio.run(world.proxy.stop())
    asyncio.run(world.proxy.stop())
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)
    assert not list(world.place.run_dir.iterdir())
    assert not list(world.place.config_dir.iterdir())


def test_workers_are_unprivileged_and_sockets_private(world: World) -> None:
    world.apply(routed(world.site().server()))
    assert all(Path(f"/proc/{pid}").stat().st_uid != 0 for pid in workers(world))
    for file in (world.place.admin_socket, world.place.master_socket):
        assert file.stat().st_mode & 0o077 == 0
    # The workers, who are others, find the daemon's socket there; nobody else's business is seen.
    assert world.place.run_dir.stat().st_mode & 0o066 == 0


def test_nothing_to_change_is_cheap(world: World) -> None:
    config = routed(*(world.site().server() for _ in range(20)))
    world.apply(config)
    worker, written = workers(world), world.place.config_file.stat().st_mtime_ns

    async def many() -> None:
        for _ in range(100):
            await world.proxy.apply(config)

    asyncio.run(many())
    assert (workers(world), world.place.config_file.stat().st_mtime_ns) == (worker, written)


def test_a_web_socket_and_a_stream_of_bytes_pass(world: World) -> None:
    echo = socket.create_server(("127.0.0.1", 0))
    world.stack.callback(echo.close)
    threading.Thread(target=serve_upgrades, args=(echo,), daemon=True).start()
    server = Server(name="ws", id=1, address="127.0.0.1", port=echo.getsockname()[1], admitted=True)
    world.apply(routed(server))
    with closing(socket.create_connection(("127.0.0.1", world.place.http_port), 10)) as client:
        client.sendall(
            b"GET /ws HTTP/1.1\r\nHost: web.localhost\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        answer = client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101")
        client.sendall(b"\x81\x05hello")
        assert client.recv(4096) == b"\x81\x05hello"


@pytest.fixture
def router() -> Iterator[str]:
    """A network namespace with an address of its own, as an environment's router."""
    name = f"proxy-test-{os.getpid()}"
    make_router(name)
    yield name
    ip("netns", "del", name)


def make_router(name: str) -> None:
    ip("netns", "add", name)
    ip("-n", name, "link", "set", "lo", "up")
    ip("-n", name, "address", "add", "10.9.0.2/32", "dev", "lo")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def name_inside(router: str) -> str:
    script = (
        "import http.client; c = http.client.HTTPConnection('10.9.0.2', 80, timeout=10);"
        "c.request('GET', '/'); print(c.getresponse().read().decode())"
    )
    command = ["ip", "netns", "exec", router, "python3", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.split() or [done.stderr])[0]


def name_through(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().read().decode().split()[0]


def test_a_service_address_inside_a_namespace(world: World, router: str) -> None:
    one, two = world.site("one"), world.site("two")
    listener = Listener(address="10.9.0.2", port=80, namespace=router, backend="shop.web.80.tcp")
    config = ProxyConfig(backends=(plain(one.server(), two.server()),), listeners=(listener,))
    world.apply(config)
    assert Counter(name_inside(router) for _ in range(4)) == {"one": 2, "two": 2}
    with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
        socket.create_connection(("10.9.0.2", 80), timeout=0.5)


def test_a_namespace_made_anew_gets_its_listeners_anew(world: World, router: str) -> None:
    site = world.site("one")
    listener = Listener(address="10.9.0.2", port=80, namespace=router, backend="shop.web.80.tcp")
    config = ProxyConfig(backends=(plain(site.server()),), listeners=(listener,))
    world.apply(config)
    ip("netns", "del", router)
    with pytest.raises(ProxyError, match=f"namespace {router}"):
        world.apply(config)
    make_router(router)
    world.apply(config)
    assert name_inside(router) == "one"


@dataclass
class KillAtCount:
    """At the point's so-manieth time."""

    point: str
    count: int

    async def at(self, point: str) -> None:
        self.count -= point == self.point
        if self.count == 0:
            raise Killed


@pytest.mark.parametrize("point", ["proxy.written", "proxy.reloading"])
@pytest.mark.parametrize("count", [1, 2])
def test_killed_while_a_namespace_is_replaced_the_next_apply_converges(
    world: World, router: str, point: str, count: int
) -> None:
    site = world.site("one")
    listener = Listener(address="10.9.0.2", port=80, namespace=router, backend="shop.web.80.tcp")
    config = ProxyConfig(backends=(plain(site.server()),), listeners=(listener,))
    world.apply(config)
    ip("netns", "del", router)
    make_router(router)
    dying = HAProxy(world.place, clock=SystemClock(), faults=KillAtCount(point, count))
    with pytest.raises(Killed):
        asyncio.run(dying.apply(config))
    asyncio.run(world.another().apply(config))
    assert name_inside(router) == "one"


def test_a_taken_port_inside_a_namespace_is_named(world: World, router: str) -> None:
    site = world.site("one")
    listener = Listener(address="10.9.0.2", port=80, namespace=router, backend="shop.web.80.tcp")
    world.apply(routed(site.server()))
    command = ["python3", "-m", "http.server", "--bind", "10.9.0.2", "80"]
    holder = subprocess.Popen(
        ["ip", "netns", "exec", router, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: "<!DOCTYPE" in name_inside(router))
        with pytest.raises(AddressUnavailable) as caught:
            world.apply(ProxyConfig(backends=(plain(site.server()),), listeners=(listener,)))
    finally:
        holder.kill()
        holder.wait()
    assert f"10.9.0.2:80 in {router}" in caught.value.message
    assert f"process {holder.pid}" in caught.value.message


def workers(world: World) -> set[int]:
    """The current worker, as the kernel sees it: the master's youngest child."""
    pid = int(world.place.pid_file.read_text())
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {max(map(int, children))}


def test_the_proxy_protocol_is_asked_for_and_passed_on(world: World) -> None:
    told = socket.create_server(("127.0.0.1", 0))
    world.stack.callback(told.close)
    told.settimeout(10)
    one = Server(name="db-1", id=1, address="127.0.0.1", port=told.getsockname()[1], admitted=True)
    listener = Listener(
        address="127.0.0.1",
        port=free_port(),
        namespace=None,
        backend="shop.web.80.tcp",
        accept_proxy=True,
    )
    backend = replace(plain(), send_proxy=True)
    world.apply(ProxyConfig(backends=(backend,), listeners=(listener,)))
    # Added at run time: it must be told as one from the file is.
    world.apply(ProxyConfig(backends=(replace(backend, servers=(one,)),), listeners=(listener,)))
    where = ("127.0.0.1", listener.port)
    with closing(socket.create_connection(where, 10)) as client:
        client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 5432\r\nhello")
        connection, _ = told.accept()
        with closing(connection):
            connection.settimeout(10)
            got = b""
            while not got.endswith(b"hello"):
                got += connection.recv(4096)
    assert got.startswith(b"\r\n\r\n\0\r\nQUIT\n\x21\x11")
    assert got[16:20] == bytes((192, 0, 2, 7))
    with closing(socket.create_connection(where, 10)) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
