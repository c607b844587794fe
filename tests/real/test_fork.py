"""Forks of a saved guest by the driver alone: who they are, what they share, what is refused."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
import struct
import subprocess
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from tests.real.test_hypervisor import booted, bridge, config, driver, place, tiny
from vmorch.effects import SystemClock
from vmorch.errors import HypervisorError
from vmorch.guest.access import GuestAccess
from vmorch.guest.protocol import IdentityBundle
from vmorch.guest.seed import write_seed
from vmorch.hypervisor.driver import LibvirtHypervisor
from vmorch.hypervisor.protocol import GuestConfig

__all__ = ["bridge", "config", "place", "tiny"]  # fixtures

NONCE = "cat /proc/sys/kernel/random/boot_id; cat /run/nonce"
RANDOM = "head -c 16 /dev/urandom | od -An -tx1"
FORKS = 3


def bundle(number: int) -> IdentityBundle:
    """Of fork `number`; 0 is the blank one."""
    return IdentityBundle(
        instance_id=f"i-{number}",
        host_name=f"fork-{number}",
        machine_id=f"{number:032x}",
        mac=f"52:54:00:00:00:{number:02x}",
        address=f"10.99.0.{64 + number}",
        prefix_length=24,
        gateway="10.99.0.1",
        name_servers=(),
        search_domain="",
        ssh_host_key=f"KEY {number}\n",
        ssh_host_public_key=f"ssh-ed25519 {number}",
        authorized_keys=(),
        random_seed=os.urandom(64),
    )


async def said(hypervisor: LibvirtHypervisor, name: str, script: str) -> str:
    arguments = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
    pid = (await hypervisor.agent(name, "guest-exec", arguments, 30))["pid"]
    while True:
        status = await hypervisor.agent(name, "guest-exec-status", {"pid": pid}, 30)
        if status["exited"]:
            assert status["exitcode"] == 0, status
            return base64.b64decode(status.get("out-data", "")).decode()
        await asyncio.sleep(0.05)


async def saved_guest(hypervisor: LibvirtHypervisor, config: GuestConfig) -> Path:
    """A booted guest's RAM, beside its disk, which nothing writes any more."""
    config.seed_disk.unlink()
    write_seed(config.seed_disk, bundle(0))
    await hypervisor.start(config)
    await booted(hypervisor, config.name)
    await said(hypervisor, config.name, f"echo only in memory >/run/nonce; {NONCE}")
    saved = config.system_disk.parent / "ram"
    await hypervisor.save(config.name, saved)
    config.system_disk.chmod(0o444)
    return saved


def fork_of(config: GuestConfig, number: int) -> GuestConfig:
    directory = config.system_disk.parent / f"fork-{number}"
    directory.mkdir(mode=0o711)
    disk, seed = directory / "disk.qcow2", directory / "seed.iso"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2"]
    subprocess.run([*create, "-b", str(config.system_disk), str(disk)], check=True)
    write_seed(seed, bundle(number))
    return replace(
        config,
        name=f"{config.name}{number}",
        uuid=str(uuid.UUID(int=number)),
        identity=replace(config.identity, ordinal=number + 1),
        system_disk=disk,
        seed_disk=seed,
        mac=bundle(number).mac,
        tap=f"{config.tap}{number}",
        service_log=directory / "service.log",
        console_log=directory / "console.log",
    )


async def become(hypervisor: LibvirtHypervisor, fork: GuestConfig, *, keep: bool = False) -> None:
    guests = GuestAccess(hypervisor.agent, SystemClock())
    await guests.become(fork.name, epoch=time.time(), keep_service=keep, timeout_seconds=60)


def test_forks_share_what_was_in_memory_and_become_others(config: GuestConfig) -> None:
    async def check() -> None:
        async with driver(config.system_disk.parent) as hypervisor:
            saved = await saved_guest(hypervisor, config)
            assert stat.S_IMODE(saved.stat().st_mode) == 0o600
            assert saved.stat().st_uid == 0
            assert await hypervisor.guests() == []
            forks = [fork_of(config, number) for number in range(1, FORKS + 1)]
            for fork in forks:
                await hypervisor.fork(fork, saved)
                await booted(hypervisor, fork.name)
            seen = {guest.name: guest for guest in await hypervisor.guests()}
            assert {fork.name: fork.uuid for fork in forks} == {n: g.uuid for n, g in seen.items()}
            assert all(seen[fork.name].identity == fork.identity for fork in forks)
            # One and the same guest until each is told who it is.
            assert len({await said(hypervisor, fork.name, NONCE) for fork in forks}) == 1
            for fork in forks:
                await become(hypervisor, fork)
                await hypervisor.raise_link(fork.name)
            assert len({await said(hypervisor, fork.name, RANDOM) for fork in forks}) == FORKS
            for number, fork in enumerate(forks, start=1):
                who = await said(
                    hypervisor,
                    fork.name,
                    "hostname; cat /etc/machine-id; cd /sys/class/net/eth0; cat address carrier; "
                    "cat /etc/ssh/ssh_host_ed25519_key /run/nonce",
                )
                own = bundle(number)
                assert who == (
                    f"{own.host_name}\n{own.machine_id}\n{own.mac}\n1\n{own.ssh_host_key}"
                    "only in memory\n"
                )

    asyncio.run(check())


def test_a_state_that_does_not_fit_is_refused_and_leaves_no_guest(
    config: GuestConfig,
) -> None:
    async def check() -> None:
        async with driver(config.system_disk.parent) as hypervisor:
            saved = await saved_guest(hypervisor, config)
            whole = saved.read_bytes()
            fork = fork_of(config, 1)
            stream = 92 + struct.unpack_from("<I", whole, 20)[0]
            for damaged, said_of_it in (
                (b"LibvirtQemudPart" + whole[16:], "it was not finished"),
                (b"x" + whole[1:], "it is no saved state"),
                (whole[:16] + struct.pack("<I", 3) + whole[20:], "its version is 3"),
                (whole[:28] + struct.pack("<I", 1) + whole[32:], "it is compressed"),
                (whole[:60], "it is cut off"),
                (whole[:stream], "it is cut off"),
                (whole[: stream + 5000], "."),
                (whole[:stream] + bytes(4096) + whole[stream + 4096 :], "."),
            ):
                saved.write_bytes(damaged)
                with pytest.raises(HypervisorError, match=said_of_it):
                    await hypervisor.fork(fork, saved)
                assert await hypervisor.guests() == []
            saved.write_bytes(whole)
            await hypervisor.fork(fork, saved)
            await booted(hypervisor, fork.name)

    asyncio.run(check())
