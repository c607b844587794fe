"""Environments that end by themselves: their time, or the process that asked for them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from vmorch.effects import SystemProcesses
from vmorch.errors import StoreError
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.reconciler.reaper import POLL_SECONDS
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import World
from vmorch.store.protocol import EnvironmentRecord


def living(directory: Path, story: Callable[[World], Awaitable[None]], **end: float | str) -> None:
    """A world with the environment `test`, which ends by `end`, and `other`, which does not."""

    async def life() -> None:
        world = World(1, directory)
        service = ServiceSpec(name="web", image=world.image("app"), stop_grace_period_seconds=1.0)
        now = world.clock.now()
        expires_at = now + float(end["ttl"]) if "ttl" in end else None
        holder = str(end["holder"]) if "holder" in end else None
        world.processes.identities[7] = "7:100:boot"
        await world.store.apply(
            EnvironmentSpec(name="test", services={"web": service}),
            now=now,
            expires_at=expires_at,
            holder=holder,
        )
        await world.store.apply(EnvironmentSpec(name="other", services={"web": service}), now=now)
        world.boot()
        await world.live(60.0)
        await story(world)
        await world.crash()

    run_virtually(life())


async def names(world: World) -> list[str]:
    return [record.name for record in await world.store.environments()]


def test_an_environment_goes_when_its_time_is_over(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.live(40.0)
        assert await names(world) == ["other", "test"]
        await world.live(10.0)
        assert await names(world) == ["other"]
        assert all("other" in domain for domain in world.hypervisor.domains)
        (event,) = [e for e in await world.store.events() if e.kind == "environment-expired"]
        assert (event.environment, "time is over" in event.message) == ("test", True)

    living(tmp_path, story, ttl=101.0)


@pytest.mark.parametrize("successor", [None, "7:999:boot", "7:100:later"])
def test_an_environment_goes_with_its_holder(tmp_path: Path, successor: str | None) -> None:
    """Also when the daemon was down meanwhile, and another process has the number now."""

    async def story(world: World) -> None:
        assert await names(world) == ["other", "test"]
        await world.crash()
        if successor:
            world.processes.identities[7] = successor
        else:
            del world.processes.identities[7]
        world.boot()
        await world.live(10.0)
        assert await names(world) == ["other"]

    living(tmp_path, story, holder="7:100:boot")


def test_a_holder_s_end_is_seen_soon(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.processes.identities.clear()
        await world.live(POLL_SECONDS + 3.0)
        assert await names(world) == ["other"]

    living(tmp_path, story, holder="7:100:boot")


def test_a_process_is_told_from_others_and_ends_as_a_zombie_too() -> None:
    processes = SystemProcesses()
    own = processes.identity(os.getpid())
    assert own == processes.identity(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        identity = processes.identity(child.pid)
        assert identity is not None
        assert identity.startswith(f"{child.pid}:")
        assert identity.partition(":")[2] != str(own).partition(":")[2]
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet reaped
        assert processes.identity(child.pid) is None
    finally:
        child.kill()
        child.communicate()
    assert processes.identity(child.pid) is None


def test_a_process_that_cannot_be_looked_at_has_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its environment would go, with its volumes."""

    def no_more_files(*_: object, **__: object) -> str:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", no_more_files)
        with pytest.raises(OSError, match="Too many"):
            SystemProcesses().identity(os.getpid())

    async def story(world: World) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(world.processes, "identity", no_more_files)
            await world.live(30.0)
        assert await names(world) == ["other", "test"]
        world.processes.identities.clear()
        await world.live(10.0)
        assert await names(world) == ["other"]

    living(tmp_path, story, holder="7:100:boot")


def test_a_store_that_fails_for_a_moment_stops_no_reaping(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        environments, failures = world.store.environments, [StoreError("busy")] * 3

        async def sometimes() -> Sequence[EnvironmentRecord]:
            if failures:
                raise failures.pop()
            return await environments()

        world.store.environments = sometimes
        world.processes.identities.clear()
        await world.live(15.0)
        assert (await names(world), failures) == (["other"], [])

    living(tmp_path, story, holder="7:100:boot")
