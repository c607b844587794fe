"""Router namespaces for real; a namespace with a veth into the bridge stands for a guest.

Needs a lab: `script/lab .venv/bin/pytest tests/real/test_network.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vmorch.effects import Faults, NoFaults, SystemClock
from vmorch.model import addresses
from vmorch.model.addresses import allocate_network
from vmorch.model.instance import EnvironmentNetwork
from vmorch.model.names import Installation
from vmorch.network import dnsmasq
from vmorch.network.router import RouterNetwork

PROBE = Path(__file__).with_name("net_probe.py")
INSTALLATION = Installation("abcdef" + "0" * 26)
POOL = "10.213.0.0/16"
INNER = "10.212.0.0/24"
HOST = "203.0.113.1"  # the lab's own address, towards OUTSIDE, its default gateway
OUTSIDE = "203.0.113.2"
FAR = "198.51.100.7"

pytestmark = pytest.mark.skipif("VMORCH_LAB" not in os.environ, reason="needs script/lab")


def sh(command: str, *, stdin: str = "") -> str:
    done = subprocess.run(command.split(), capture_output=True, text=True, input=stdin, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def enter(namespace: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []


def probe(namespace: str, *words: str) -> tuple[bool, str]:
    """(whether it worked, what was said) of a probe that runs in this namespace, "" the host's."""
    command = [*enter(namespace), sys.executable, "-ISE", str(PROBE), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def reaches(namespace: str, address: str, port: int = 9999) -> bool:
    return probe(namespace, "connect", address, str(port))[0]


def ask(namespace: str, name: str, kind: str = "A", server: str = "10.212.0.1") -> str:
    return probe(namespace, "dns", server, name, kind)[1]


@dataclass
class World:
    """The lab with an outside, and a RouterNetwork on it."""

    network: RouterNetwork
    run_dir: Path
    stack: ExitStack
    environments: list[EnvironmentNetwork] = field(default_factory=list)

    def serve(self, namespace: str, address: str, port: int = 9999) -> None:
        self._start(namespace, "serve", address, str(port))

    def sink(self, namespace: str, file: Path) -> Path:
        """A file that gets the sender of each datagram that arrives in the namespace."""
        self._start(namespace, "sink", "0.0.0.0", str(file))
        return file

    def _start(self, namespace: str, *words: str) -> None:
        command = [*enter(namespace), sys.executable, "-ISE", str(PROBE), *words]
        server = self.stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        self.stack.callback(server.kill)
        assert server.stdout is not None and server.stdout.readline() == b"listening\n"

    def environment(self, name: str, *, inner: str = INNER, internal: bool = False) -> str:
        """Make an environment; the name of its router's namespace."""
        network = allocate_network(
            name,
            used_indices={e.index for e in self.environments},
            taken=asyncio.run(self.network.taken_subnets()),
            outer_pool=POOL,
            inner=inner,
            internal=internal,
        )
        self.environments.append(network)
        self.ensure(network)
        return INSTALLATION.namespace(network.index)

    def ensure(self, network: EnvironmentNetwork, services: int = 1) -> None:
        wanted = [addresses.service_address(network, n) for n in range(services)]

        async def cycle() -> None:
            await self.network.ensure_host()
            await self.network.ensure(network, wanted)

        asyncio.run(cycle())

    def guest(self, environment: int, host_number: int = 64) -> str:
        """A namespace with one interface on the bridge, configured like a guest."""
        network = self.environments[environment]
        name, port = f"g{environment}x{host_number}", f"gv{environment}x{host_number}"
        mac = addresses.mac_address(INSTALLATION.id, network.index, host_number)
        own = addresses.inner_address(network, host_number)
        sh(f"ip netns add {name}")
        self.stack.callback(sh, f"ip netns del {name}")
        sh(f"ip link add {port} type veth peer name eth0 address {mac} netns {name}")
        self.stack.callback(sh, f"ip link del {port}")
        sh(f"ip link set {port} master {INSTALLATION.bridge(network.index)} up")
        lines = f"link set lo up\naddr add {own}/24 dev eth0\nlink set eth0 up\n"
        lines += f"route add default via {addresses.gateway(network)}\n"
        sh(f"ip -n {name} -batch -", stdin=lines)
        return name


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        sh("ip netns add outside")
        stack.callback(sh, "ip netns del outside")
        sh("ip link add wan0 type veth peer name eth0 netns outside")
        stack.callback(sh, "ip link del wan0")
        sh(f"ip addr add {HOST}/24 dev wan0")
        sh("ip link set wan0 up")
        sh(f"ip route add default via {OUTSIDE}")
        lines = f"link set lo up\naddr add {OUTSIDE}/24 dev eth0\nlink set eth0 up\n"
        sh("ip -n outside -batch -", stdin=f"{lines}addr add {FAR}/32 dev lo\n")
        run_dir = Path("/run/vmorch/network")
        resolv_conf = tmp_path / "resolv.conf"
        resolv_conf.write_text(f"nameserver 127.0.0.53\nnameserver {OUTSIDE}\n")
        network = RouterNetwork(
            INSTALLATION,
            run_dir,
            outer_pool=POOL,
            clock=SystemClock(),
            faults=NoFaults(),
            resolv_files=(resolv_conf,),
        )
        world = World(network, run_dir, stack)
        world.serve("outside", "0.0.0.0")
        yield world
        for index in asyncio.run(network.present()):
            asyncio.run(network.remove(index))


def upstream_dns(world: World, log: Path) -> None:
    command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv"]
    command += ["--no-hosts", f"--address=/far.test/{FAR}", "--local=/#/", "--log-queries"]
    command += [f"--listen-address={OUTSIDE}", "--bind-interfaces", "--pid-file="]
    server = world.stack.enter_context(
        subprocess.Popen([*enter("outside"), *command, f"--log-facility={log}"])
    )
    world.stack.callback(server.kill)
    until(lambda: ask("", "far.test", server=OUTSIDE).startswith("NOERROR"))


def until(condition: object) -> None:
    assert callable(condition)
    for _ in range(100):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")


def leftovers() -> str:
    return "\n".join(
        [
            sh("ip -br link"),
            sh("ip netns list"),
            sh("ip route show table all"),
            sh("nft list ruleset"),
        ]
    )


def test_two_environments_with_equal_inner_subnets(world: World) -> None:
    world.environment("red")
    world.environment("blue")
    red, blue = world.guest(0), world.guest(1)
    sh(f"ip -n {blue} addr add 172.31.0.1/32 dev lo")
    world.serve(red, "0.0.0.0", 9999)
    world.serve(blue, "0.0.0.0", 9999)
    world.serve(blue, "0.0.0.0", 9998)  # only blue's: the host really meets two guests
    # The host reaches both, and each sees its own gateway as the client.
    assert probe("", "connect", "10.213.0.64", "9999") == (True, "10.212.0.1")
    assert probe("", "connect", "10.213.1.64", "9999") == (True, "10.212.0.1")
    assert reaches("", "10.213.1.64", 9998)
    assert not reaches("", "10.213.0.64", 9998)


def test_what_a_guest_reaches(world: World) -> None:
    router = world.environment("red")
    guest, other = world.guest(0), world.guest(0, 65)
    world.serve(other, "0.0.0.0")
    world.serve(router, "10.212.0.2", 8080)
    assert probe(guest, "connect", "10.212.0.2", "8080") == (True, "10.212.0.64")
    assert probe(guest, "connect", "10.212.0.65", "9999") == (True, "10.212.0.64")
    assert probe(guest, "connect", FAR, "9999") == (True, HOST)
    assert probe(guest, "ping", "10.212.0.1")[0]
    # A closed port of a service address is refused at once, not left to time out.
    assert "ConnectionRefused" in probe(guest, "connect", "10.212.0.2", "8081")[1]


def test_what_a_guest_does_not_reach(world: World) -> None:
    router = world.environment("red")
    world.environment("blue", inner="10.55.0.0/24")
    guest, other = world.guest(0), world.guest(1)
    world.serve("", "0.0.0.0")
    world.serve(router, "0.0.0.0")
    world.serve(other, "0.0.0.0")
    for address in (
        HOST,  # the host's own address
        "10.213.254.0",  # the host's end of our link
        "10.213.254.1",  # the router's outer end
        "10.213.254.2",  # the host's end of another environment's link
        "10.213.254.3",
        "10.212.0.1",  # the gateway, but for DNS
        "10.213.0.64",  # our own outer address
        "10.213.1.64",  # another environment's guest
        "10.55.0.64",  # by its inner address
        "10.55.0.1",
        "169.254.169.254",
    ):
        assert not reaches(guest, address), address
    assert reaches("", "10.213.1.64")  # it was there all the while


def mac_of(interface: str, namespace: str = "") -> str:
    inside = f"-n {namespace} " if namespace else ""
    return str(json.loads(sh(f"ip {inside}-j link show dev {interface}"))[0]["address"])


def link_local(mac: str) -> str:
    """The address that IPv6 autoconfiguration makes of a MAC (RFC 4291, appendix A)."""
    b = [int(part, 16) for part in mac.split(":")]
    return f"fe80::{b[0] ^ 2:02x}{b[1]:02x}:{b[2]:02x}ff:fe{b[3]:02x}:{b[4]:02x}{b[5]:02x}%eth0"


def test_a_guest_cannot_go_around_the_router(world: World, tmp_path: Path) -> None:
    world.environment("red")
    guest = world.guest(0)
    at_host = world.sink("", tmp_path / "host")
    at_far = world.sink("outside", tmp_path / "far")
    assert probe(guest, "send", FAR, "")[0]
    until(lambda: at_far.read_text() == f"{HOST}\n")  # the right way is open
    bridge = mac_of(INSTALLATION.bridge(0))
    assert probe(guest, "frame", HOST, bridge)[0]
    assert probe(guest, "frame", FAR, bridge)[0]
    assert probe("", "send", HOST, "")[0]
    assert probe("", "send", FAR, "")[0]
    # The host's own come after the guest's, and nothing of the guest's came before them.
    until(lambda: at_host.read_text() == f"{HOST}\n")
    until(lambda: at_far.read_text() == f"{HOST}\n" * 2)


def test_no_ipv6_of_host_or_router_reaches_a_guest(world: World) -> None:
    router = world.environment("red")
    guest, other = world.guest(0), world.guest(0, 65)
    for namespace in ("", router, other):
        world.serve(namespace, "::")
    bridge, down = INSTALLATION.bridge(0), INSTALLATION.downlink(0)
    for mac in (mac_of(bridge), mac_of(down), mac_of("in0", router)):
        assert not reaches(guest, link_local(mac)), mac
    until(lambda: reaches(guest, link_local(mac_of("eth0", other))))
    for link in (bridge, down, INSTALLATION.uplink(0)):
        assert sh(f"ip -6 addr show dev {link}") == ""
    assert sh(f"ip -n {router} -6 addr show") == ""


def test_a_guest_cannot_pretend_to_be_outside_its_subnet(world: World, tmp_path: Path) -> None:
    world.environment("red")
    guest = world.guest(0)
    at_far = world.sink("outside", tmp_path / "far")
    sh(f"ip -n {guest} addr add 192.0.2.9/32 dev lo")
    assert probe(guest, "send", FAR, "192.0.2.9")[0]
    assert probe(guest, "send", FAR, "10.212.0.64")[0]
    until(lambda: at_far.read_text() != "")
    assert at_far.read_text() == f"{HOST}\n"


def test_nobody_walks_in_from_outside(world: World) -> None:
    world.environment("red")
    guest = world.guest(0)
    world.serve(guest, "0.0.0.0")
    sh(f"ip -n outside route add 10.213.0.0/16 via {HOST}")
    assert not reaches("outside", "10.213.0.64")
    assert reaches("", "10.213.0.64")


def test_the_hosts_wall_holds_where_a_routers_does_not(world: World) -> None:
    red, blue = world.environment("red"), world.environment("blue")
    for router in (red, blue):
        sh(f"nsenter --net=/run/netns/{router} nft flush ruleset")
    world.serve(red, "0.0.0.0")
    world.serve("", "0.0.0.0")
    assert reaches("", "10.213.254.1")
    assert reaches(red, FAR)
    assert not reaches(red, HOST)
    assert not reaches(blue, "10.213.254.1")
    sh(f"ip -n outside route add 10.213.0.0/16 via {HOST}")
    assert not reaches("outside", "10.213.254.1")


def test_an_internal_environment_has_no_way_out(world: World, tmp_path: Path) -> None:
    upstream_dns(world, tmp_path / "log")
    router = world.environment("red", internal=True)
    guest, other = world.guest(0), world.guest(0, 65)
    world.serve(other, "0.0.0.0")
    world.serve(router, "10.212.0.2", 8080)
    assert not reaches(guest, FAR)
    assert not reaches(guest, OUTSIDE)
    asked = (tmp_path / "log").read_text()
    assert ask(guest, "far.test") == "NXDOMAIN"
    assert (tmp_path / "log").read_text() == asked
    asyncio.run(world.network.set_names(world.environments[0], {"db": ["10.212.0.2"]}))
    until(lambda: ask(guest, "db") == "NOERROR 10.212.0.2")
    assert ask(guest, "db", "AAAA") == "NOERROR"
    assert ask(guest, "web") == "NXDOMAIN"
    assert reaches(guest, "10.212.0.65")
    assert reaches(guest, "10.212.0.2", 8080)
    world.serve(guest, "0.0.0.0")
    assert reaches("", "10.213.0.64")


def test_names(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    upstream_dns(world, log)
    world.environment("red_shop")
    network = world.environments[0]
    guest = world.guest(0)
    records = {"my_db": ["10.212.0.2"], "my_db-1": ["10.212.0.64"]}
    asyncio.run(world.network.set_names(network, records))
    until(lambda: ask(guest, "my_db") == "NOERROR 10.212.0.2")
    assert ask(guest, "my_db-1.red-shop.internal") == "NOERROR 10.212.0.64"
    assert ask(guest, "64.0.212.10.in-addr.arpa", "PTR") == "NOERROR my_db-1.red-shop.internal"
    assert ask(guest, "far.test") == f"NOERROR {FAR}"
    # What is ours and absent is denied here, at once; so is what has no domain.
    assert ask(guest, "my_db", "AAAA") == "NOERROR"
    assert ask(guest, "web") == "NXDOMAIN"
    assert ask(guest, "web.red-shop.internal") == "NXDOMAIN"
    assert ask(guest, "99.0.212.10.in-addr.arpa", "PTR") == "NXDOMAIN"
    asked = [line for line in log.read_text().splitlines() if "query" in line]
    assert all("far.test" in line for line in asked), asked
    # Changed live: the old names are gone, the process is the same.
    (before,) = [pid for pid, _ in dnsmasq.running(INSTALLATION.namespace(0))]
    asyncio.run(world.network.set_names(network, {"web": ["10.212.0.2"]}))
    until(lambda: ask(guest, "web") == "NOERROR 10.212.0.2")
    assert ask(guest, "my_db") == "NXDOMAIN"
    assert [pid for pid, _ in dnsmasq.running(INSTALLATION.namespace(0))] == [before]
    # Only guests ask here, and dnsmasq is not root.
    assert probe("outside", "dns", HOST, "web", "A")[0] is False
    uids = Path(f"/proc/{before}/status").read_text().split("Uid:")[1].split()[:4]
    assert "0" not in uids


def test_a_killed_name_server_comes_back_with_its_names(world: World) -> None:
    world.environment("red")
    guest = world.guest(0)
    asyncio.run(world.network.set_names(world.environments[0], {"db": ["10.212.0.2"]}))
    (before,) = [pid for pid, _ in dnsmasq.running(INSTALLATION.namespace(0))]
    os.kill(before, signal.SIGKILL)
    until(lambda: not dnsmasq.running(INSTALLATION.namespace(0)))
    world.ensure(world.environments[0])
    assert ask(guest, "db") == "NOERROR 10.212.0.2"


@pytest.mark.parametrize(
    "harm",
    [
        "ip netns del {namespace}",
        "ip link del {uplink}",
        "ip link del {downlink}",
        "ip link set {uplink} down",
        "nft flush ruleset",
        "sysctl -qw net.ipv4.ip_forward=0",
    ],
)
def test_ensure_repairs(world: World, harm: str) -> None:
    router = world.environment("red")
    guest = world.guest(0)
    world.serve(guest, "0.0.0.0")
    world.serve("", "0.0.0.0", 9997)
    words = {"uplink": INSTALLATION.uplink(0), "downlink": INSTALLATION.downlink(0)}
    sh(harm.format(namespace=router, **words))
    world.ensure(world.environments[0])
    assert reaches("", "10.213.0.64")
    assert reaches(guest, FAR)
    assert not reaches(guest, HOST, 9997)
    assert ask(guest, "web") == "NXDOMAIN"


def test_a_removed_bridge_is_made_anew(world: World) -> None:
    world.environment("red")
    sh(f"ip link del {INSTALLATION.bridge(0)}")
    world.ensure(world.environments[0])
    guest = world.guest(0)
    assert reaches(guest, FAR)


def test_service_addresses_follow(world: World) -> None:
    router = world.environment("red")
    guest = world.guest(0)
    world.ensure(world.environments[0], services=3)
    world.serve(router, "10.212.0.4", 80)
    assert reaches(guest, "10.212.0.4", 80)
    world.ensure(world.environments[0], services=1)
    assert not reaches(guest, "10.212.0.4", 80)
    assert probe(guest, "ping", "10.212.0.2")[0]


def test_a_new_daemon_takes_over_without_a_break(world: World, tmp_path: Path) -> None:
    router = world.environment("red")
    guest = world.guest(0)
    world.serve(router, "10.212.0.2", 80)
    before = dnsmasq.running(router), sh(f"ip -o link show {INSTALLATION.bridge(0)}")
    world.network = RouterNetwork(
        INSTALLATION,
        world.run_dir,
        outer_pool=POOL,
        clock=SystemClock(),
        faults=NoFaults(),
        resolv_files=(tmp_path / "resolv.conf",),
    )
    world.ensure(world.environments[0])
    after = dnsmasq.running(router), sh(f"ip -o link show {INSTALLATION.bridge(0)}")
    assert after == before
    assert reaches(guest, "10.212.0.2", 80)


def test_remove_leaves_nothing(world: World) -> None:
    before = leftovers()
    world.environment("red")
    world.environment("blue")
    assert asyncio.run(world.network.present()) == [0, 1]
    asyncio.run(world.network.remove(0))
    assert asyncio.run(world.network.present()) == [1]
    asyncio.run(world.network.remove(1))
    asyncio.run(world.network.remove(1))
    assert asyncio.run(world.network.present()) == []
    assert leftovers() == before
    assert not list(world.run_dir.iterdir())
    assert not dnsmasq.running(INSTALLATION.namespace(0))


def test_half_made_things_are_found_and_removed(world: World) -> None:
    before = leftovers()
    sh(f"ip link add {INSTALLATION.bridge(7)} type bridge")
    sh(f"ip link add {INSTALLATION.uplink(8)} type veth peer name x")
    Path("/run/netns", INSTALLATION.namespace(9)).touch()
    sh("ip link add 111111-br1 type bridge")  # another installation's
    assert asyncio.run(world.network.present()) == [7, 8, 9]
    for index in (7, 8, 9):
        asyncio.run(world.network.remove(index))
    assert asyncio.run(world.network.present()) == []
    sh("ip link del 111111-br1")
    assert leftovers() == before


def test_taken_subnets_are_those_of_others(world: World) -> None:
    world.environment("red")
    taken = asyncio.run(world.network.taken_subnets())
    assert "203.0.113.0/24" in taken
    assert not any(subnet.startswith(("10.213.", "127.", "0.")) for subnet in taken)


class _Crash(Exception):
    """The daemon dies here."""


@dataclass
class _CrashAt:
    point: str

    async def at(self, point: str) -> None:
        if point == self.point:
            raise _Crash


def restarted(world: World, faults: Faults) -> RouterNetwork:
    return RouterNetwork(
        INSTALLATION, world.run_dir, outer_pool=POOL, clock=SystemClock(), faults=faults
    )


MAKING = ("host", "namespace", "rules", "links", "up", "dns")


@pytest.mark.parametrize("point", MAKING)
def test_made_half_it_is_completed_or_removed(world: World, point: str) -> None:
    before = leftovers()
    network = allocate_network(
        "red", used_indices=(), taken=(), outer_pool=POOL, inner=INNER, internal=False
    )
    for completed in (False, True):
        crash = _CrashAt(f"network:{point}")
        with pytest.raises(_Crash):
            asyncio.run(restarted(world, crash).ensure(network, ["10.212.0.2"]))
        world.network = restarted(world, NoFaults())
        if completed:
            world.environments.append(network)
            world.ensure(network)
            guest = world.guest(0)
            assert reaches(guest, FAR)
            assert ask(guest, "web") == "NXDOMAIN"
        else:
            asyncio.run(world.network.remove(0))
            assert leftovers() == before


@pytest.mark.parametrize("point", ["dns-stopped", "links-removed"])
def test_removed_half_it_is_still_found(world: World, point: str) -> None:
    before = leftovers()
    world.environment("red")
    with pytest.raises(_Crash):
        asyncio.run(restarted(world, _CrashAt(f"network:{point}")).remove(0))
    world.network = restarted(world, NoFaults())
    assert asyncio.run(world.network.present()) == [0]
    asyncio.run(world.network.remove(0))
    assert asyncio.run(world.network.present()) == []
    assert leftovers() == before
