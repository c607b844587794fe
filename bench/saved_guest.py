"""The restore leg alone: a saved Debian guest, restored by `virsh` as it is and forked by us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vmorch.effects import SystemClock
from vmorch.errors import GuestError
from vmorch.guest.protocol import IdentityBundle
from vmorch.guest.seed import write_seed
from vmorch.hypervisor.acceleration import AccelerationProbe
from vmorch.hypervisor.driver import LibvirtHypervisor
from vmorch.hypervisor.protocol import GuestConfig, GuestIdentity
from vmorch.images.bases import Base
from vmorch.model.names import Installation
from vmorch.model.spec import ServiceSpec
from vmorch.reconciler.identity import blank_bundle

INSTALLATION = Installation("bebe" * 8)
BRIDGE = f"{INSTALLATION.short}-br1"
BOOT_SECONDS = 300.0
MIB = 1024 * 1024


@dataclass(slots=True)
class SavedGuest:
    directory: Path
    config: GuestConfig
    runner: asyncio.Runner
    hypervisor: LibvirtHypervisor
    forks: int = 0

    @property
    def ram(self) -> Path:
        return self.directory / "ram"

    def seconds_of_virsh(self) -> float:
        """The guest itself again, paused, on the disk that it had."""
        shutil.copyfile(self.directory / "frozen.qcow2", self.config.system_disk)
        began = time.perf_counter()
        subprocess.run(["virsh", "-q", "restore", "--paused", self.ram], check=True)
        seconds = time.perf_counter() - began
        subprocess.run(["virsh", "-q", "destroy", self.config.name], check=True)
        return seconds

    def seconds_of_fork(self) -> float:
        """Overlay, restore, limits and the first instruction of another guest."""
        self.forks += 1
        disk = self.directory / f"fork-{self.forks}.qcow2"
        fork = replace(
            self.config,
            name=f"{self.config.name}-{self.forks}",
            uuid=str(uuid.UUID(int=self.forks)),
            system_disk=disk,
            tap=f"{INSTALLATION.short}-t{self.forks}",
        )
        began = time.perf_counter()
        overlay(self.directory / "frozen.qcow2", disk)
        self.runner.run(self.hypervisor.fork(fork, self.ram))
        seconds = time.perf_counter() - began
        self.runner.run(self.hypervisor.destroy(fork.name))
        return seconds


def overlay(backing: Path, disk: Path) -> None:
    create = ("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", backing)
    subprocess.run([*create, disk], check=True)


@contextlib.contextmanager
def saved_guest(base: Base, images: Path, directory: Path) -> Iterator[SavedGuest]:
    """A guest of `base`, booted and saved; it lies in `directory`, which QEMU may pass through."""
    subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)
    with asyncio.Runner() as runner:
        hypervisor = runner.run(_driver(directory))
        try:
            config = _config(base, images, directory)
            overlay(base.disk, config.system_disk)
            write_seed(config.seed_disk, _blank(base))
            runner.run(_boot_and_save(hypervisor, config, directory / "ram"))
            shutil.copyfile(config.system_disk, directory / "frozen.qcow2")
            (directory / "frozen.qcow2").chmod(0o444)
            yield SavedGuest(directory, config, runner, hypervisor)
        finally:
            for guest in runner.run(hypervisor.guests()):
                runner.run(hypervisor.destroy(guest.name))
            runner.run(hypervisor.close())
            subprocess.run(["ip", "link", "delete", BRIDGE], check=True)


async def _driver(directory: Path) -> LibvirtHypervisor:
    async def no_kernel() -> Path:
        raise AssertionError("TCG is forced: nothing is to be probed")

    probe = AccelerationProbe(directory / "acceleration.json", no_kernel)
    place = directory / "hypervisor"
    return LibvirtHypervisor(
        "qemu:///system", INSTALLATION, "tcg", probe, directory=place, clock=SystemClock()
    )


async def _boot_and_save(hypervisor: LibvirtHypervisor, config: GuestConfig, ram: Path) -> None:
    await hypervisor.start(config)
    deadline = time.monotonic() + BOOT_SECONDS
    while True:
        try:
            await hypervisor.agent(config.name, "guest-ping", {}, 5)
            break
        except GuestError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)
    # Without CAP_SYS_RESOURCE libvirt refuses what it saved itself: a memory limit.
    subprocess.run(["virsh", "-q", "memtune", config.name, "--hard-limit", "-1"], check=True)
    await hypervisor.save(config.name, ram)


def _config(base: Base, images: Path, directory: Path) -> GuestConfig:
    return GuestConfig(
        name=INSTALLATION.domain("bench", "saved", 1),
        uuid=str(uuid.UUID(int=2**64)),
        identity=GuestIdentity(
            owner=INSTALLATION.id,
            environment="bench",
            service="saved",
            ordinal=1,
            revision=1,
            image=base.digest,
            boot=1,
        ),
        vcpus=1,
        cpus=1.0,
        boot_cpus=2.0,
        memory_bytes=256 * MIB,
        kernel=images / base.boot.kernel,
        initrd=images / base.boot.initrd,
        command_line=f"{base.boot.command_line} cloud-init=disabled",
        system_disk=directory / "disk.qcow2",
        seed_disk=directory / "seed.iso",
        mac="52:54:00:00:00:01",
        bridge=BRIDGE,
        tap=f"{INSTALLATION.short}-t",
        linked=False,
        service_log=directory / "service.log",
        console_log=directory / "console.log",
    )


def _blank(base: Base) -> IdentityBundle:
    return blank_bundle(
        base.digest.removeprefix("sha256:"),
        spec=ServiceSpec(name="saved", image=base.digest),
        image=base.run,
        with_service=False,
        random_seed=os.urandom(64),
        time_scale=1.0,
    )
