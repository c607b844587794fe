"""Real guests of the base `tiny` under a real libvirtd: limits, ownership, life and death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmorch.effects import SystemClock
from vmorch.errors import GuestError, HypervisorError
from vmorch.hypervisor.acceleration import AccelerationProbe
from vmorch.hypervisor.driver import LibvirtHypervisor
from vmorch.hypervisor.platform import memory_limit_bytes
from vmorch.hypervisor.protocol import (
    GuestConfig,
    GuestHint,
    GuestIdentity,
    GuestState,
    ObservedGuest,
)
from vmorch.images.bases import Base, BaseCatalog
from vmorch.model.guest import Acceleration
from vmorch.model.names import Installation
from vmorch.resources import data_dir

OURS = Installation("f0a1b2" + "c" * 26)
# The same short id by chance: 24 bits are not many.
THEIRS = Installation("f0a1b2" + "d" * 26)
BRIDGE = f"{OURS.short}-br7"
BOOT_SECONDS = 120.0
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def tiny(images_dir: Path) -> Base:
    catalog = BaseCatalog(images_dir, data_dir("images"), os.environ["VMORCH_OUTSIDE_NETNS"])
    return asyncio.run(catalog.ensure("tiny", lambda _: None))


@pytest.fixture(scope="module")
def bridge() -> Iterator[str]:
    subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)
    yield BRIDGE
    subprocess.run(["ip", "link", "delete", BRIDGE], check=True)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that QEMU's user may pass through, as pytest's own are not."""
    directory = Path(os.environ["VMORCH_LAB"]) / f"hypervisor-{time.monotonic_ns()}"
    directory.mkdir(mode=0o711)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def config(tiny: Base, images_dir: Path, bridge: str, place: Path) -> GuestConfig:
    disk, seed = place / "disk.qcow2", place / "seed.iso"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(tiny.disk)]
    subprocess.run([*create, str(disk)], check=True)
    with seed.open("wb") as file:
        file.truncate(MIB)
    seed.chmod(0o600)
    return GuestConfig(
        name=OURS.domain("demo", "hello", 1),
        uuid="6a1f4c1e-3a35-4c57-9b3c-1f6b0a5f0c01",
        identity=GuestIdentity(
            owner=OURS.id,
            environment="demo",
            service="hello",
            ordinal=1,
            revision=3,
            image="sha256:5a",
            boot=2,
        ),
        vcpus=1,
        cpus=0.5,
        boot_cpus=1.0,
        memory_bytes=128 * MIB,
        kernel=images_dir / tiny.boot.kernel,
        initrd=images_dir / tiny.boot.initrd,
        command_line=f"{tiny.boot.command_line} root=/dev/vda",
        system_disk=disk,
        seed_disk=seed,
        mac="52:54:00:12:34:56",
        bridge=bridge,
        tap=f"{OURS.short}-t1",
        service_log=place / "service.log",
        console_log=place / "console.log",
    )


@asynccontextmanager
async def driver(
    directory: Path, installation: Installation = OURS
) -> AsyncIterator[LibvirtHypervisor]:
    """The driver; whatever guests of ours a test leaves end with it."""

    async def no_kernel() -> Path:
        raise AssertionError("TCG is forced: nothing is to be probed")

    probe = AccelerationProbe(directory / "acceleration.json", no_kernel)
    hypervisor = LibvirtHypervisor(
        "qemu:///system",
        installation,
        "tcg",
        probe,
        directory=directory / "hypervisor",
        clock=SystemClock(),
    )
    try:
        yield hypervisor
    finally:
        for guest in await hypervisor.guests():
            if guest.identity is not None:
                await hypervisor.destroy(guest.name)
        await hypervisor.close()


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        if found := await condition():
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(f"not in time: {what}")


async def find(hypervisor: LibvirtHypervisor, name: str) -> ObservedGuest | None:
    return next((g for g in await hypervisor.guests() if g.name == name), None)


async def booted(hypervisor: LibvirtHypervisor, name: str) -> None:
    async def answers() -> bool:
        try:
            await hypervisor.agent(name, "guest-ping", {}, 5)
        except GuestError as error:
            assert error.retryable, error
            return False
        return True

    await until(answers, f"the agent of {name} answers")


async def run_in(hypervisor: LibvirtHypervisor, name: str, script: str) -> None:
    arguments = {"path": "/bin/sh", "arg": ["-c", script]}
    await hypervisor.agent(name, "guest-exec", arguments, 10)


async def collect(hints: AsyncIterator[GuestHint], last: str) -> list[str]:
    """The details of all hints up to the one that says `last`."""
    seen: list[str] = []
    async with asyncio.timeout(BOOT_SECONDS):
        async for hint in hints:
            seen.append(hint.detail)
            if hint.detail == last:
                break
    return seen


def cgroup_value(name: str, *files: str) -> list[str]:
    """The words of the first of `files` that the guest's cgroup has (names of v1, of v2)."""
    for group in Path("/sys/fs/cgroup").glob(f"**/machine/*{name}*"):
        for file in files:
            if (group / file).exists():
                return (group / file).read_text().split()
    raise AssertionError(f"{name} has none of {files}")


def qemu_pid(name: str) -> int:
    return int(Path(f"/run/libvirt/qemu/{name}.pid").read_text())


def cpu_seconds(name: str) -> float:
    fields = Path(f"/proc/{qemu_pid(name)}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_quota(name: str) -> float:
    """In cores."""
    quota, *rest = cgroup_value(name, "cpu.cfs_quota_us", "cpu.max")
    period = rest[0] if rest else cgroup_value(name, "cpu.cfs_period_us")[0]
    return int(quota) / int(period)


def test_a_guest_lives_under_its_caps_and_powers_off(
    config: GuestConfig, place: Path, tiny: Base
) -> None:
    async def story() -> None:
        async with driver(place) as hypervisor:
            hints = hypervisor.hints()
            await hypervisor.start(config)
            await hypervisor.start(config)
            check_limits()
            check_files()
            guest = await find(hypervisor, config.name)
            assert guest is not None
            assert (guest.identity, guest.uuid, guest.state) == (
                config.identity,
                config.uuid,
                GuestState.RUNNING,
            )
            await booted(hypervisor, config.name)
            await hypervisor.set_cpus(config.name, config.cpus)
            assert cpu_quota(config.name) == pytest.approx(0.5)
            await check_busy_guest(hypervisor)
            await check_restarted_libvirtd(hypervisor)
            await hypervisor.shutdown(config.name)
            seen = await collect(hints, "stopped: shutdown")
            assert "agent: connected" in seen
            assert "shutdown: guest" in seen
            assert await find(hypervisor, config.name) is None
        assert config.console_log.stat().st_size > 0
        assert config.service_log.exists()

    def check_limits() -> None:
        assert cpu_quota(config.name) == pytest.approx(config.boot_cpus)
        limit = memory_limit_bytes(
            memory_bytes=config.memory_bytes, vcpus=1, acceleration=Acceleration.TCG
        )
        (found,) = cgroup_value(config.name, "memory.limit_in_bytes", "memory.max")
        assert int(found) == pytest.approx(limit, abs=MIB)

    def check_files() -> None:
        qemu = Path(f"/proc/{qemu_pid(config.name)}").stat().st_uid
        assert pwd.getpwuid(qemu).pw_name != "root"
        assert config.system_disk.stat().st_uid == qemu
        assert config.seed_disk.stat().st_uid == qemu
        assert [stat.S_IMODE(p.stat().st_mode) for p in (config.system_disk, config.seed_disk)] == [
            0o600,
            0o400,
        ]
        for shared in (tiny.disk, config.kernel, config.initrd, place / "hypervisor/blank.raw"):
            found = shared.stat()
            assert (found.st_uid, found.st_mode & 0o022) == (0, 0)
        virtlogd = Path("/run/virtlogd.pid").read_text().strip()
        opened = {fd.resolve() for fd in Path(f"/proc/{virtlogd}/fd").iterdir()}
        assert {config.console_log, config.service_log} <= opened

    async def check_busy_guest(hypervisor: LibvirtHypervisor) -> None:
        await run_in(hypervisor, config.name, "while :; do :; done")
        await asyncio.sleep(2)  # the boot's own work is over
        before, start = cpu_seconds(config.name), time.monotonic()
        await asyncio.sleep(10)
        used = (cpu_seconds(config.name) - before) / (time.monotonic() - start)
        # Beneath the cap only what else the host is busy with can keep it.
        assert 0.2 < used < config.cpus + 0.05
        throttled = cgroup_value(config.name, "cpu.stat")
        assert int(throttled[throttled.index("nr_throttled") + 1]) > 0

    async def check_restarted_libvirtd(hypervisor: LibvirtHypervisor) -> None:
        pid = qemu_pid(config.name)
        libvirtd = int(Path("/run/libvirtd.pid").read_text())
        os.kill(libvirtd, signal.SIGKILL)
        with pytest.raises(HypervisorError) as caught:
            await until(lambda: hypervisor.set_cpus(config.name, 0.4), "never")
        assert caught.value.retryable
        subprocess.run(["libvirtd", "-d"], check=True)
        assert await until(lambda: find_patiently(hypervisor), "the guest is found again")
        assert qemu_pid(config.name) == pid
        await booted(hypervisor, config.name)

    async def find_patiently(hypervisor: LibvirtHypervisor) -> ObservedGuest | None:
        try:
            return await find(hypervisor, config.name)
        except HypervisorError as error:
            assert error.retryable, error
            return None

    asyncio.run(story())


def test_a_panic_and_a_dead_qemu_are_told_apart(config: GuestConfig, place: Path) -> None:
    async def story() -> None:
        async with driver(place) as hypervisor:
            hints = hypervisor.hints()
            await hypervisor.start(config)
            await booted(hypervisor, config.name)
            await run_in(hypervisor, config.name, "echo c >/proc/sysrq-trigger")
            await collect(hints, "crashed: panicked")
            guest = await find(hypervisor, config.name)
            assert guest is not None
            assert guest.state is GuestState.CRASHED
            with pytest.raises(HypervisorError, match="has ended"):
                await hypervisor.start(config)
            await hypervisor.destroy(config.name)
            await hypervisor.destroy(config.name)
            await collect(hints, "destroyed")
            await hypervisor.start(config)
            os.kill(qemu_pid(config.name), signal.SIGKILL)
            await collect(hints, "stopped: qemu died")
            assert await hypervisor.guests() == []

    asyncio.run(story())


def test_a_start_that_was_cut_short_is_finished(config: GuestConfig, place: Path) -> None:
    async def story() -> None:
        async with driver(place) as hypervisor:
            await hypervisor.start(config)
            subprocess.run(["virsh", "-q", "suspend", config.name], check=True)
            await hypervisor.set_cpus(config.name, 0.25)
            await hypervisor.start(config)
            guest = await find(hypervisor, config.name)
            assert guest is not None
            assert guest.state is GuestState.RUNNING
            assert cpu_quota(config.name) == pytest.approx(config.boot_cpus)
            await booted(hypervisor, config.name)
            await power_off_with_a_hung_agent(hypervisor)

    async def power_off_with_a_hung_agent(hypervisor: LibvirtHypervisor) -> None:
        hints = hypervisor.hints()
        with contextlib.suppress(GuestError):
            await run_in(hypervisor, config.name, "kill -STOP $(pidof qemu-ga)")
        assert await until(lambda: is_silent(hypervisor), "the agent hangs")
        await hypervisor.shutdown(config.name)
        assert "shutdown: guest" in await collect(hints, "stopped: shutdown")

    async def is_silent(hypervisor: LibvirtHypervisor) -> bool:
        try:
            await hypervisor.agent(config.name, "guest-ping", {}, 1)
        except GuestError as error:
            return error.retryable
        return False

    asyncio.run(story())


def test_another_installations_guest_is_never_touched(config: GuestConfig, place: Path) -> None:
    async def story() -> None:
        async with driver(place) as ours, driver(place, THEIRS) as theirs:
            await ours.start(config)
            assert await theirs.guests() == []
            for attempt in (
                theirs.destroy(config.name),
                theirs.set_cpus(config.name, 0.1),
                theirs.shutdown(config.name),
            ):
                with pytest.raises(HypervisorError, match="does not belong"):
                    await attempt
            assert cpu_quota(config.name) == pytest.approx(config.boot_cpus)
            guest = await find(ours, config.name)
            assert guest is not None
            assert guest.state is GuestState.RUNNING

    asyncio.run(story())


def test_a_refused_start_says_why_and_leaves_nothing(config: GuestConfig, place: Path) -> None:
    async def story() -> None:
        async with driver(place) as hypervisor:
            with pytest.raises(HypervisorError) as no_bridge:
                await hypervisor.start(replace(config, bridge="vmnone"))
            assert "bridge is missing" in no_bridge.value.hint
            place.chmod(0o700)
            with pytest.raises(HypervisorError) as no_way:
                await hypervisor.start(config)
            assert "pass through every directory" in no_way.value.hint
            assert await hypervisor.guests() == []
            place.chmod(0o711)
            await hypervisor.start(config)

    asyncio.run(story())
