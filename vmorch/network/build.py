"""The network of build steps: a namespace that reaches the outside through slirp4netns.

Nothing of it lasts on the host: the namespace has no name, and both of its processes watch a
pipe of ours. However we end, also killed, the kernel closes the pipes and both go.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from io import FileIO
from pathlib import Path

from vmorch.errors import NetworkError
from vmorch.model.stepnet import StepNetwork, outside
from vmorch.network.commands import ENVIRONMENT, PACKAGES, run
from vmorch.network.rules import step_rules

DEVICE = "tap0"
# Reserved for measuring devices (RFC 2544): no network that a step wants to reach is there,
# which slirp's own default, also that of many virtual machines, cannot claim.
SUBNET = "198.18.213.0/24"
NAME_SERVER = "198.18.213.3"
_END_SECONDS = 5.0


@asynccontextmanager
async def open_step_network(
    *, mode: str, outer_pool: str, outside_netns: str = ""
) -> AsyncIterator[StepNetwork]:
    """`Settings.build_network`, `.outer_pool` and `.outside_netns` as a network for one build.

    `outside_netns` is the path of the namespace that has the way out; empty is our own. A
    resolv.conf beside it is the one that works there.

    Raises:
        NetworkError: slirp4netns is missing or does not start.
    """
    if mode == "none":
        yield StepNetwork(namespace=None)
        return
    if shutil.which("slirp4netns", path=ENVIRONMENT["PATH"]) is None:
        raise NetworkError(
            "Build steps have no network: the program 'slirp4netns' is not installed.",
            hint=f"Install it (Debian's package {PACKAGES['slirp4netns']}), or set "
            "'build_network' to none.",
        )
    async with _namespace() as namespace:
        closed = [outer_pool, *await asyncio.to_thread(_host_addresses, outside_netns)]
        rules = step_rules(device=DEVICE, name_server=NAME_SERVER, closed=closed)
        await asyncio.to_thread(_prepare, namespace, rules)
        async with _slirp(namespace, outside_netns):
            yield StepNetwork(namespace=namespace, resolv_conf=f"nameserver {NAME_SERVER}\n")


@asynccontextmanager
async def _namespace() -> AsyncIterator[Path]:
    """A fresh network namespace, alive as long as we hold its keeper's standard input."""
    command = ["unshare", "--net", "sh", "-c", "echo ready; exec cat >&2"]
    keeper = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=ENVIRONMENT
    )
    assert keeper.stdin is not None and keeper.stdout is not None
    try:
        # Before it says so, its namespace is still ours.
        if await keeper.stdout.readline() != b"ready\n":
            raise NetworkError(
                "Could not make a network namespace for build steps.",
                hint="The daemon must run as root.",
            )
        yield Path(f"/proc/{keeper.pid}/ns/net")
    finally:
        keeper.stdin.close()
        await _end(keeper)


def _host_addresses(outside_netns: str) -> list[str]:
    """The host's own addresses: slirp connects from the host, where each of them is at home."""
    words = [*_entering(outside_netns), "ip", "-4", "-j", "address", "show"]
    listing = json.loads(run(words, purpose="read the host's addresses") or "[]")
    return [a["local"] for entry in listing for a in entry.get("addr_info", ())]


def _prepare(namespace: Path, rules: str) -> None:
    enter = _entering(str(namespace))
    run([*enter, "ip", "link", "set", "lo", "up"], purpose="set up a build step's network")
    run([*enter, "nft", "-f", "-"], stdin=rules, purpose="load a build step's rules")


@asynccontextmanager
async def _slirp(namespace: Path, outside_netns: str) -> AsyncIterator[None]:
    """slirp4netns on the namespace, ready. It ends when its exit descriptor's other end does."""
    with _pipe() as (ready, ready_end), _pipe() as (exit_end, exit_):
        helper = await asyncio.create_subprocess_exec(
            *_slirp_command(namespace, outside_netns, ready_end.fileno(), exit_end.fileno()),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            pass_fds=(ready_end.fileno(), exit_end.fileno()),
            env=ENVIRONMENT,
        )
        assert helper.stderr is not None
        try:
            # Ours would keep the pipe open: its end is how we learn of a slirp that failed.
            ready_end.close()
            if not await asyncio.to_thread(ready.read, 1):
                said = " ".join((await helper.stderr.read()).decode(errors="replace").split())
                raise NetworkError(f"slirp4netns does not start: {said[-300:]}", retryable=True)
            yield
        finally:
            exit_.close()
            await _end(helper)


def _slirp_command(
    namespace: Path, outside_netns: str, ready_fd: int, exit_fd: int
) -> Sequence[str]:
    slirp = ["slirp4netns", "--configure", "--mtu=65520", f"--cidr={SUBNET}", "--enable-sandbox"]
    slirp += ["--disable-host-loopback", f"--ready-fd={ready_fd}", f"--exit-fd={exit_fd}"]
    slirp += ["--netns-type=path", str(namespace), DEVICE]
    return outside(outside_netns, *slirp)


def _entering(namespace: str) -> list[str]:
    return ["nsenter", f"--net={namespace}"] if namespace else []


@contextmanager
def _pipe() -> Iterator[tuple[FileIO, FileIO]]:
    """The reading and the writing end. No child inherits them unasked."""
    reading, writing = os.pipe()
    with FileIO(reading, "r") as reader, FileIO(writing, "w") as writer:
        yield reader, writer


async def _end(process: Process) -> None:
    try:
        async with asyncio.timeout(_END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
