"""Forks of a saved guest by the driver alone: who they are, what they share, what they become and
what is refused."""

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

from tests.real.test_hypervisor import booted, bridge, config, driver, place, tiny, until
from vmorch.effects import SystemClock
from vmorch.errors import GuestError, HypervisorError
from vmorch.guest.access import GuestAccess
from vmorch.guest.protocol import GuestFile, IdentityBundle
from vmorch.guest.seed import write_seed
from vmorch.hypervisor.driver import LibvirtHypervisor
from vmorch.hypervisor.protocol import GuestConfig
from vmorch.images.bases import BaseCatalog
from vmorch.resources import data_dir

__all__ = ["bridge", "config", "place", "tiny"]  # fixtures

NONCE = "cat /proc/sys/kernel/random/boot_id; cat /run/nonce"
FORKS = 3
# A guest's clock stands while it is a file.
SAVED_SECONDS = 1.5
# Longer than any test waits: a service that is asked to stop and does not is seen.
STOP_SECONDS = 600
DRAWS = "/usr/local/bin/draws"
HOOK = """#!/bin/sh
echo 10 $(hostname) $(cat /etc/machine-id) $INSTANCE_ID $(cat /run/secrets/token) >>/run/hooked
cat /run/vmorch/service.state >>/run/hooked
"""
LAST_HOOK = """#!/bin/sh
echo 20 >>/run/hooked
[ ! -e /run/refuse ] || { echo no such fork; exit 3; }
"""


def bundle(number: int, *files: GuestFile, argv: tuple[str, ...] = ()) -> IdentityBundle:
    """Of fork `number`; 0 is the blank one."""
    return IdentityBundle(
        files=files,
        argv=argv,
        instance_id=f"i-{number}",
        cloud_instance_id=f"cloud-{number}",
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
        stop_seconds=STOP_SECONDS,
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


async def saved_guest(
    hypervisor: LibvirtHypervisor,
    config: GuestConfig,
    *files: GuestFile,
    argv: tuple[str, ...] = (),
    prepare: str = "true",
) -> Path:
    """A booted guest's RAM, beside its disk, which nothing writes any more; `prepare` has run."""
    config.seed_disk.unlink()
    write_seed(config.seed_disk, bundle(0, *files, argv=argv))
    await hypervisor.start(config)
    await booted(hypervisor, config.name)
    await said(hypervisor, config.name, f"echo only in memory >/run/nonce; {NONCE}; {prepare}")
    saved = config.system_disk.parent / "ram"
    await hypervisor.save(config.name, saved)
    config.system_disk.chmod(0o444)
    return saved


def fork_of(
    config: GuestConfig, number: int, *files: GuestFile, argv: tuple[str, ...] = ()
) -> GuestConfig:
    directory = config.system_disk.parent / f"fork-{number}"
    directory.mkdir(mode=0o711)
    disk, seed = directory / "disk.qcow2", directory / "seed.iso"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2"]
    subprocess.run([*create, "-b", str(config.system_disk), str(disk)], check=True)
    write_seed(seed, bundle(number, *files, argv=argv))
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


def token(number: int) -> GuestFile:
    return GuestFile(path="/run/secrets/token", content=f"secret {number}".encode(), mode=0o400)


def drawn(text: str) -> set[str]:
    """The bytes, whichever way they were asked for: one generator gives both."""
    numbers = [line.split()[1] for line in text.splitlines() if "random" in line]
    assert len(numbers) == len(set(numbers)) == 32
    return set(numbers)


def compile_draws(program: Path) -> None:
    command = ["gcc", "-std=c17", "-D_GNU_SOURCE", "-static", "-Os", "-s", "-o", str(program)]
    subprocess.run([*command, str(Path(__file__).parent / "draws.c")], check=True)


@pytest.fixture
def draws(tmp_path: Path) -> GuestFile:
    program = tmp_path / "draws"
    compile_draws(program)
    return GuestFile(path=DRAWS, content=program.read_bytes(), mode=0o755)


def mark(fork: GuestConfig) -> None:
    """By this a process of the template sees that it is in a fork: see draws.c."""
    with fork.seed_disk.open("r+b") as seed:
        seed.seek(-4096, os.SEEK_END)
        assert not any(seed.read())
        seed.seek(-4096, os.SEEK_END)
        seed.write(b"a fork")


def test_forks_draw_the_same_random_numbers_until_they_become_others(
    config: GuestConfig, draws: GuestFile
) -> None:
    """A process of the template itself sees that it is in a fork, by its seed disk, and draws
    before any process is started there."""

    async def check() -> None:
        async with driver(config.system_disk.parent) as hypervisor:
            argv = (DRAWS, "wait", "/dev/vdb", "/run/draws")
            saved = await saved_guest(hypervisor, config, draws, argv=argv)
            await asyncio.sleep(SAVED_SECONDS)
            forks = [fork_of(config, n, token(n), argv=argv) for n in range(1, FORKS + 1)]
            before, after = [], []
            for number, fork in enumerate(forks, start=1):
                mark(fork)
                await hypervisor.fork(fork, saved)
                await booted(hypervisor, fork.name)
                wait = "until grep -q end /run/draws; do usleep 50000; done; cat /run/draws"
                before.append(drawn(await said(hypervisor, fork.name, wait)))
                stale = await said(hypervisor, fork.name, f"{DRAWS} now")
                assert clock(stale) < time.time() - SAVED_SECONDS + 1
                await become(hypervisor, fork, keep=True)
                asked = time.time()
                now = await said(hypervisor, fork.name, f"{DRAWS} now; cat /run/secrets/token")
                after.append(drawn(now))
                assert asked - 1 < clock(now) < time.time() + 1
                assert now.endswith(f"secret {number}")
            # The kernel may have drawn a number in between: they are in step or off by one.
            assert len(set.intersection(*before)) > 16
            assert len(set.union(*after)) == 32 * FORKS
            assert not set.union(*before) & set.union(*after)

    asyncio.run(check())


def test_a_fork_whose_agent_never_answers_is_given_up_in_time(
    config: GuestConfig, draws: GuestFile
) -> None:
    """It is stopped as soon as the guest notices that it is a fork."""

    async def check() -> None:
        async with driver(config.system_disk.parent) as hypervisor:
            line = (
                f"{DRAWS} wait /dev/vdb /run/draws & until grep -q end /run/draws 2>/dev/null; "
                "do usleep 50000; done; kill -STOP $(pidof qemu-ga); wait"
            )
            argv = ("/usr/lib/vmorch/busybox", "sh", "-c", line)
            saved = await saved_guest(hypervisor, config, draws, argv=argv)
            fork = fork_of(config, 1, argv=argv)
            mark(fork)
            await hypervisor.fork(fork, saved)
            guests = GuestAccess(hypervisor.agent, SystemClock())

            async def answers() -> bool:
                try:
                    await hypervisor.agent(fork.name, "guest-ping", {}, 2)
                except GuestError:
                    return False
                return True

            async def silent() -> bool:
                return not await answers() and not await answers()

            await until(silent, "its agent is stopped")
            async with asyncio.timeout(60):
                with pytest.raises(GuestError):
                    await guests.become(
                        fork.name, epoch=time.time(), keep_service=False, timeout_seconds=10
                    )
                await hypervisor.destroy(fork.name)
            assert await hypervisor.guests() == []

    asyncio.run(check())


def clock(text: str) -> float:
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("time "))


def test_hooks_run_before_the_service_and_a_failing_one_fails(config: GuestConfig) -> None:
    async def check() -> None:
        async with driver(config.system_disk.parent) as hypervisor:
            place = "/etc/vmorch/fork.d"
            hooks = (
                GuestFile(path=f"{place}/20-last", content=LAST_HOOK.encode(), mode=0o755),
                GuestFile(path=f"{place}/10-first", content=HOOK.encode(), mode=0o755),
                GuestFile(path=f"{place}/15-readme", content=b"echo 15 >>/run/hooked"),
            )
            argv = ("sleep", "100000")
            saved = await saved_guest(hypervisor, config, *hooks, argv=argv)
            refuse = GuestFile(path="/run/refuse", content=b"")
            forks = [fork_of(config, number, token(number), argv=argv) for number in (1, 2)]
            forks.append(fork_of(config, 3, token(3), refuse, argv=argv))
            for number, fork in enumerate(forks, start=1):
                await hypervisor.fork(fork, saved)
                await booted(hypervisor, fork.name)
                state = await said(hypervisor, fork.name, "cat /run/vmorch/service.state")
                own = bundle(number)
                who = f"{own.host_name} {own.machine_id} {own.instance_id} secret {number}"
                if number == 3:
                    with pytest.raises(GuestError, match=r"no such fork\n.*20-last ended with 3"):
                        await become(hypervisor, fork)
                else:
                    await become(hypervisor, fork, keep=number == 2)
                    # Once more, as by a daemon that was killed in between.
                    await become(hypervisor, fork, keep=number == 2)
                hooked = await said(hypervisor, fork.name, "head -n 3 /run/hooked")
                assert hooked == f"10 {who}\n{state}20\n"
                now = await said(hypervisor, fork.name, "cat /run/vmorch/service.state")
                assert (now == state) is (number != 1)
            identity = "cat /run/vmorch/instance-id"
            assert await said(hypervisor, forks[2].name, identity) == "i-0\n"

    asyncio.run(check())


STUBBORN = """
trap '' TERM
while :; do read -r now _ </proc/uptime; echo $now >/run/tick; usleep 20000; done
"""
WATCHING_HOOK = b"#!/bin/sh\ncat /run/tick; usleep 200000; cat /run/tick\n"


def test_the_templates_service_stands_still_and_is_not_asked_to_stop(config: GuestConfig) -> None:
    """It would go on as long as it may, with what all forks have in memory."""

    async def check() -> None:
        async with driver(config.system_disk.parent) as hypervisor:
            hook = GuestFile(path="/etc/vmorch/fork.d/watch", content=WATCHING_HOOK, mode=0o755)
            argv = ("sh", "-c", STUBBORN)
            saved = await saved_guest(hypervisor, config, hook, argv=argv)
            fork = fork_of(config, 1, argv=argv)
            await hypervisor.fork(fork, saved)
            await booted(hypervisor, fork.name)
            read_pid = "read -r _ pid </run/vmorch/service.state"
            ask = f"{read_pid}; echo $pid; sleep 0.5; cat /run/tick"
            pid, tick = (await said(hypervisor, fork.name, ask)).split()
            await become(hypervisor, fork)
            look = f"{read_pid}; [ $pid = {pid} ] || exit 0; usleep 50000"
            await said(hypervisor, fork.name, f"for i in $(seq 100); do {look}; done; exit 1")
            first, second = (await said(hypervisor, fork.name, "cat /run/vmorch/hook.log")).split()
            assert first == second
            assert float(first) >= float(tick)

    asyncio.run(check())


def test_a_fork_starts_the_service_that_its_template_did_not_have(config: GuestConfig) -> None:
    async def check() -> None:
        async with driver(config.system_disk.parent) as hypervisor:
            saved = await saved_guest(hypervisor, config)
            line = "cat /run/secrets/token >/run/served; exec sleep 100000"
            guests = GuestAccess(hypervisor.agent, SystemClock())
            for number in (1, 2):
                fork = fork_of(config, number, token(number), argv=("sh", "-c", line))
                await hypervisor.fork(fork, saved)
                await become(hypervisor, fork, keep=number == 2)
                wait = "until [ -s /run/served ]; do usleep 50000; done; cat /run/served"
                assert await said(hypervisor, fork.name, wait) == f"secret {number}"
                report = await guests.report(fork.name, 60)
                assert (report.instance_id, report.service) == (f"i-{number}", "active")

    asyncio.run(check())


def test_a_guest_that_slept_is_who_it_was_at_another_time(
    config: GuestConfig, draws: GuestFile
) -> None:
    async def check() -> None:
        async with driver(config.system_disk.parent) as hypervisor:
            argv = ("sleep", "100000")
            saved = await saved_guest(hypervisor, config, draws, argv=argv)
            await asyncio.sleep(SAVED_SECONDS)
            await hypervisor.fork(config, saved)
            guests = GuestAccess(hypervisor.agent, SystemClock())
            await guests.wake(config.name, epoch=time.time(), timeout_seconds=60)
            asked = time.time()
            now = await said(hypervisor, config.name, f"{DRAWS} now; cat /run/nonce; hostname")
            assert asked - 1 < clock(now) < time.time() + 1
            assert now.endswith("only in memory\nfork-0\n")

    asyncio.run(check())


@pytest.fixture
def debian(config: GuestConfig, images_dir: Path) -> GuestConfig:
    """The same guest of base debian-12."""
    catalog = BaseCatalog(images_dir, data_dir("images"), os.environ["VMORCH_OUTSIDE_NETNS"])
    base = asyncio.run(catalog.ensure("debian-12", lambda _: None))
    rebase = ["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", str(base.disk)]
    subprocess.run([*rebase, str(config.system_disk)], check=True)
    return replace(
        config,
        cpus=1.0,
        memory_bytes=256 * 1024 * 1024,
        kernel=images_dir / base.boot.kernel,
        initrd=images_dir / base.boot.initrd,
        command_line=f"{base.boot.command_line} root=/dev/vda cloud-init=disabled",
    )


@pytest.mark.long
def test_a_fork_of_debian_takes_its_journal_and_cloud_init_along(debian: GuestConfig) -> None:
    cloud = "/var/lib/cloud"
    prepare = f"""
        mkdir -p {cloud}/instances/cloud-0/sem {cloud}/data
        echo done >{cloud}/instances/cloud-0/sem/config_runcmd
        ln -s {cloud}/instances/cloud-0 {cloud}/instance
        echo cloud-0 >{cloud}/data/instance-id
        echo old >/var/lib/systemd/random-seed
    """

    async def check() -> None:
        async with driver(debian.system_disk.parent) as hypervisor:
            saved = await saved_guest(hypervisor, debian, prepare=prepare)
            fork = fork_of(debian, 1, argv=("sh", "-c", "echo words of the fork; sleep 100000"))
            await hypervisor.fork(fork, saved)
            await become(hypervisor, fork, keep=True)

            async def logged() -> bool:
                return b"fork-1 service" in fork.service_log.read_bytes()

            await until(logged, "the fork's service logs")
            journal = "journalctl -u vmorch-service.service -o cat --no-pager"
            assert "words of the fork\n" in await said(hypervisor, fork.name, journal)
            show = "systemctl show vmorch-service -p ActiveState,KillSignal,TimeoutStopUSec,Restart"
            assert (await said(hypervisor, fork.name, show)).splitlines() == [
                "Restart=always",
                "TimeoutStopUSec=10min",
                "KillSignal=15",
                "ActiveState=active",
            ]
            seen = f"cat {cloud}/data/instance-id {cloud}/instance/sem/*; ls {cloud}/instances"
            assert await said(hypervisor, fork.name, seen) == "cloud-1\ndone\ncloud-1\n"
            assert await said(hypervisor, fork.name, "ls /var/lib/systemd/random-seed; :") == ""

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
