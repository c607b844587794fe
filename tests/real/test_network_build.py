"""The network of build steps for real. Needs a lab, as test_network.py."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from vmorch.errors import NetworkError
from vmorch.network import build
from vmorch.network.build import NAME_SERVER, open_step_network

PROBE = Path(__file__).with_name("net_probe.py")
HOST, OUTSIDE, FAR, GUEST = "203.0.113.1", "203.0.113.2", "198.51.100.7", "10.213.0.64"
POOL = "10.213.0.0/16"

pytestmark = pytest.mark.skipif("VMORCH_LAB" not in os.environ, reason="needs script/lab")


def sh(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True)


def probe(namespace: str, *words: str) -> tuple[bool, str]:
    command = ["nsenter", f"--net={namespace}", sys.executable, "-ISE", str(PROBE), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


@pytest.fixture
def outside() -> Iterator[str]:
    """An outside beyond the lab; the path of the lab's namespace, a resolv.conf beside it."""
    with ExitStack() as stack:
        sh("ip netns add outside")
        stack.callback(sh, "ip netns del outside")
        sh("ip link add wan0 type veth peer name eth0 netns outside")
        stack.callback(sh, "ip link del wan0")
        sh(f"ip addr add {HOST}/24 dev wan0")
        sh("ip link set wan0 up")
        sh(f"ip route add default via {OUTSIDE}")
        sh("ip -n outside link set lo up")
        sh("ip -n outside link set eth0 up")
        for address in (f"{OUTSIDE}/24", f"{FAR}/32", f"{GUEST}/32"):
            sh(f"ip -n outside addr add {address} dev eth0")
        server = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv"]
        server += ["--no-hosts", f"--address=/far.test/{FAR}", "--pid-file="]
        inside = ["nsenter", "--net=/run/netns/outside"]
        serve = [sys.executable, "-ISE", str(PROBE), "serve", "0.0.0.0", "9999"]
        for command in ([*inside, *server], [*inside, *serve], serve):
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            stack.callback(process.kill)
        directory = Path("/run/beyond")
        directory.mkdir()
        (directory / "resolv.conf").write_text(f"nameserver {OUTSIDE}\n")
        (directory / "netns").touch()
        sh(f"mount --bind /proc/self/ns/net {directory}/netns")
        stack.callback(sh, f"rm -r {directory}")
        stack.callback(sh, f"umount {directory}/netns")
        own = "/proc/self/ns/net"
        for _ in range(100):
            if all(probe(own, "connect", a, "9999")[0] for a in (FAR, HOST)):
                break
            time.sleep(0.05)
        yield str(directory / "netns")


def test_a_step_reaches_the_outside_and_names_but_not_the_host(outside: str) -> None:
    async def scenario() -> None:
        async with open_step_network(mode="nat", outer_pool=POOL, outside_netns=outside) as step:
            assert step.resolv_conf == f"nameserver {NAME_SERVER}\n"
            inside = str(step.namespace)
            asking = ("dns", NAME_SERVER, "far.test", "A")
            assert await asyncio.to_thread(probe, inside, *asking) == (True, f"NOERROR {FAR}")
            assert (await asyncio.to_thread(probe, inside, "connect", FAR, "9999"))[0]
            # slirp would connect to each of these from the host; 198.18.213.2 is its own word
            # for the host's loopback.
            for address in (HOST, GUEST, "127.0.0.1", "198.18.213.2", "169.254.1.1"):
                reached, _ = await asyncio.to_thread(probe, inside, "connect", address, "9999")
                assert not reached, address
        assert not step.namespace or not step.namespace.exists()

    asyncio.run(scenario())


def test_no_network_is_an_empty_one() -> None:
    async def scenario() -> None:
        async with open_step_network(mode="none", outer_pool=POOL) as step:
            assert step.namespace is None

    asyncio.run(scenario())


def test_nothing_survives_a_kill(outside: str) -> None:
    program = (
        "import asyncio\nfrom vmorch.network.build import open_step_network\n"
        "async def main():\n"
        f"  async with open_step_network(mode='nat', outer_pool='{POOL}') as step:\n"
        "    print(step.namespace, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        namespace = owner.stdout.readline().decode().strip()
        assert _processes(namespace) == 2
        os.kill(owner.pid, signal.SIGKILL)
    for _ in range(100):
        if _processes(namespace) == 0:
            return
        time.sleep(0.05)
    raise AssertionError("slirp4netns or the keeper of the namespace lives on")


def _processes(namespace: str) -> int:
    """The keeper, and the slirp4netns that names its namespace."""
    count = 0
    keeper = Path(namespace).parts[2]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        count += namespace in words or (process.name == keeper and words[0] == "cat")
    return count


def test_a_helper_that_does_not_start_says_why(outside: str) -> None:
    async def scenario() -> None:
        async with open_step_network(mode="nat", outer_pool=POOL):
            raise AssertionError("it opened")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "SUBNET", "198.18.213.0/31")
        with pytest.raises(NetworkError, match="does not start: prefix length"):
            asyncio.run(scenario())
