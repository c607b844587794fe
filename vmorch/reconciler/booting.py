"""The machine of a revision's guests, the same for instances and for the anonymous guest of a warm
snapshot: only then one can be forked from the other."""

from __future__ import annotations

from pathlib import Path

from vmorch.hypervisor.protocol import GuestConfig, GuestIdentity, GuestVolume
from vmorch.model.image import ImageManifest
from vmorch.model.spec import ServiceSpec
from vmorch.reconciler.parts import Parts
from vmorch.snapshots.protocol import DISK as DISK
from vmorch.snapshots.protocol import RAM as RAM

SEED_BYTES = 64
"""Of randomness, in the identity bundle."""
SEED = "seed.iso"
SPENT_RAM = "ram.resuming"
"""The memory of an instance that sleeps (RAM), once a guest may have run on from it. DISK and RAM
are called as in a snapshot, as its draft is the directory of a guest, too."""
FORKING = "forking"
"""A mark: its disk is of a fork that may not know yet who it is."""
BESIDE_VCPUS = 1.0
"""What QEMU's own threads may use while a guest boots. The quota counts them too: without it they
would take from the whole cores that the guest may have."""


def guest_config(
    parts: Parts,
    spec: ServiceSpec,
    manifest: ImageManifest,
    *,
    name: str,
    uuid: str,
    identity: GuestIdentity,
    directory: Path,
    mac: str,
    network_index: int,
    tap: str,
    linked: bool = True,
    volumes: tuple[GuestVolume, ...] = (),
) -> GuestConfig:
    """`directory` holds the guest's disk, seed and logs."""
    kernel, initrd = parts.images.boot_files(manifest)
    return GuestConfig(
        name=name,
        uuid=uuid,
        identity=identity,
        vcpus=spec.vcpus,
        cpus=spec.cpus,
        boot_cpus=spec.vcpus + BESIDE_VCPUS,
        memory_bytes=max(spec.memory_bytes, manifest.boot.least_memory_bytes),
        kernel=kernel,
        initrd=initrd,
        command_line=_command_line(manifest, wants_cloud_init=spec.cloud_init is not None),
        system_disk=directory / DISK,
        seed_disk=directory / SEED,
        mac=mac,
        bridge=parts.store.installation.bridge(network_index),
        tap=tap,
        linked=linked,
        service_log=directory / "service.log",
        console_log=directory / "console.log",
        volumes=volumes,
    )


def _command_line(manifest: ImageManifest, *, wants_cloud_init: bool) -> str:
    """Without user data cloud-init has nothing to do, and half of the boot is saved."""
    line = manifest.boot.command_line
    if "cloud-init" in manifest.boot.supports and not wants_cloud_init:
        line += " cloud-init=disabled"
    return line
