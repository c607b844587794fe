"""What a guest is given beside its image: its volumes' disks, and secrets and configs as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog

from vmorch.errors import VmorchError
from vmorch.guest.protocol import GuestFile, GuestMount
from vmorch.hypervisor.protocol import GuestVolume
from vmorch.model.instance import Instance
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.model.volume import Volume
from vmorch.reconciler.parts import Parts

log = structlog.get_logger("vmorch.storage")


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """`disks` for the hypervisor, `mounts` and `files` for the guest's identity."""

    disks: tuple[GuestVolume, ...] = ()
    mounts: tuple[GuestMount, ...] = ()
    files: tuple[GuestFile, ...] = ()


async def storage_of(
    parts: Parts, instance: Instance, spec: ServiceSpec, declared: EnvironmentSpec
) -> Storage:
    """Claim the instance's volumes, make those that are not there yet, and fetch its files.

    Raises:
        Refused: another instance still has one of the volumes.
        VmorchError: a volume could not be made, or was made and is gone.
    """
    sizes = {name: volume.size_bytes for name, volume in declared.volumes.items()}
    volumes = await parts.store.claim_volumes(instance, spec.volumes, sizes)
    await parts.faults.at("start:claimed")
    for volume in volumes:
        await parts.disks.ensure(
            volume_path(parts, volume),
            size_bytes=volume.size_bytes,
            label=volume.label,
            made=volume.made,
        )
        await parts.faults.at("start:volume")
        if not volume.made:
            await parts.store.note_made(volume)
        await parts.faults.at("start:volume-noted")
    contents = await parts.store.contents(instance.environment, {f.digest for f in spec.files})
    return Storage(
        disks=tuple(GuestVolume(path=volume_path(parts, v), serial=v.label) for v in volumes),
        mounts=tuple(
            GuestMount(label=volume.label, target=mount.target, read_only=mount.read_only)
            for volume, mount in zip(volumes, spec.volumes, strict=True)
        ),
        files=tuple(
            GuestFile(
                path=file.target,
                content=contents[file.digest],
                mode=file.mode,
                uid=file.uid,
                gid=file.gid,
            )
            for file in spec.files
        ),
    )


async def remove_volumes(parts: Parts, environment: str | None = None) -> None:
    """Those that are marked for removal and that nobody holds: the file, then the memory of it.

    Raises:
        VmorchError: a file could not be removed.
    """
    for volume in await parts.store.volumes(environment):
        if volume.removing and volume.holder is None:
            try:
                await parts.disks.remove(volume_path(parts, volume))
            except OSError as error:
                raise VmorchError(
                    f"The volume '{volume.name}' cannot be removed: {error.strerror}.",
                    retryable=True,
                ) from error
            await parts.faults.at("remove-volume:file")
            await parts.store.forget_volume(volume)
            await parts.faults.at("remove-volume:forgotten")


async def sweep_volumes(parts: Parts) -> None:
    """The same for environments whose record is gone; trouble with one disk holds up nobody."""
    try:
        await remove_volumes(parts)
    except VmorchError as error:
        log.warning("a volume stays", error=error.message)


def volume_path(parts: Parts, volume: Volume) -> Path:
    return parts.settings.volumes_dir / volume.environment / volume.file_name
