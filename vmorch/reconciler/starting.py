"""Starts an instance's guest: by a fork of its revision's warm snapshot, else cold.

May be cut off between any two of its effects, and is then repeated whole (see `perform`). A fork
that was cut off is ended first, as it may not know yet who it is; its disk is made anew by
whatever start comes next, also when it was stopped meanwhile. A mark beside it says so, which lies
there before there is such a disk, and goes, both durably, when the fork is who it should be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vmorch.durable import sync
from vmorch.errors import VmorchError, of_the_disk
from vmorch.hypervisor.protocol import GuestConfig, GuestIdentity
from vmorch.model.event import EventKind
from vmorch.model.image import ImageManifest
from vmorch.model.instance import Instance, State
from vmorch.model.spec import ServiceSpec, StartMode
from vmorch.planner.actions import StartGuest
from vmorch.reconciler.booting import (
    DISK,
    FORKING,
    RAM,
    SEED,
    SEED_BYTES,
    SPENT_RAM,
    guest_config,
)
from vmorch.reconciler.identity import bundle_for
from vmorch.reconciler.parts import Parts
from vmorch.reconciler.storage import storage_of
from vmorch.reconciler.telling import domain_of, tell
from vmorch.reconciler.warming import snapshot_for
from vmorch.snapshots.protocol import LENT_DISK, LENT_RAM, WarmSnapshot
from vmorch.snapshots.upkeep import WARM_TRIES
from vmorch.store.protocol import EnvironmentRecord

_DISKS = (DISK, LENT_DISK, LENT_RAM)
"""An instance's own disk, and a fork's part of the snapshot that it comes from."""
BECOME_SECONDS = 12.0
"""How long a fork may take to become who it is. Before scaling."""


async def start_guest(parts: Parts, action: StartGuest) -> None:
    instance = replace(
        action.instance,
        state=State.STARTING,
        reason=action.reason,
        start=StartMode.FORK if action.fork else StartMode.COLD,
        boot=action.boot,
        started_at=None,
        ready_at=None,
        not_before=None,
        deadline=None,
        capped=False,
        fault="",
        exit_code=None,
    )
    await parts.store.put_instance(instance)
    await parts.faults.at("start:intended")
    await tell(parts, EventKind.INSTANCE_STARTING, instance, action.reason)
    await parts.faults.at("start:recorded")
    forget_memory(directory_of(parts, instance))
    if (directory_of(parts, instance) / FORKING).exists():
        forget_disks(directory_of(parts, instance))
    if action.fork:
        forked = await _forked(parts, instance)
        if forked:
            await _note_running(parts, instance, "forked from the warm snapshot")
            return
        instance = replace(instance, start=StartMode.COLD)
        await parts.store.put_instance(instance)
        await parts.faults.at("fork:given-up")
    start = await start_of(parts, instance)
    image, directory = start.manifest.digest, directory_of(parts, instance)
    await parts.images.create_disk(image, directory / DISK, start.spec.disk_bytes)
    await parts.faults.at("start:disk")
    await parts.hypervisor.start(await _prepared(parts, start))
    await parts.faults.at("start:guest")
    await _note_running(parts, instance, "booting")


async def _note_running(parts: Parts, instance: Instance, reason: str) -> None:
    running = replace(instance, state=State.RUNNING, reason=reason, started_at=parts.clock.now())
    await parts.store.put_instance(running)
    await parts.faults.at("start:running")
    await tell(parts, EventKind.INSTANCE_RUNNING, running, reason)


def forget_memory(directory: Path) -> None:
    """A guest that boots changes its disk: memory from before would tear it to pieces."""
    found = [directory / name for name in (RAM, SPENT_RAM) if (directory / name).exists()]
    for path in found:
        path.unlink()
    if found:
        sync(directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a start goes by."""

    instance: Instance
    record: EnvironmentRecord
    spec: ServiceSpec
    manifest: ImageManifest


async def start_of(parts: Parts, instance: Instance) -> Start:
    record = await parts.store.environment(instance.environment)
    subject = (instance.environment, instance.service, instance.revision)
    revisions = await parts.store.revisions(instance.environment)
    specs = {(r.environment, r.service, r.number): r.spec for r in revisions} | record.declared
    return Start(
        instance=instance,
        record=record,
        spec=specs[subject],
        manifest=await parts.images.manifest(specs[subject].image),
    )


def directory_of(parts: Parts, instance: Instance) -> Path:
    directory = parts.settings.instance_dir(instance.environment, instance.name)
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    return directory


async def _forked(parts: Parts, instance: Instance) -> bool:
    """Whether the guest came up by a fork and is who it should be. If not, nothing is left."""
    start = await start_of(parts, instance)
    snapshot = await snapshot_for(parts, start.spec)
    if snapshot is None:
        return False
    config = await _prepared(parts, start)
    is_suspect = False
    try:
        ram = await _lay_out(parts, start, snapshot)
        is_suspect = True
        await _run_on(parts, start, config, snapshot, ram)
        is_suspect = False
        await _connect(parts, start)
    except (VmorchError, OSError) as raised:
        error = of_the_disk(raised) if isinstance(raised, OSError) else raised
        await parts.hypervisor.destroy(domain_of(parts, instance))
        await parts.faults.at("fork:ended")
        forget_disks(directory_of(parts, instance))
        await tell(parts, EventKind.FORK_FAILED, instance, f"it boots cold: {error.message}")
        if is_suspect:
            await _blame(parts, instance, snapshot)
        return False
    parts.snapshots.note_success(snapshot.key)
    return True


async def _blame(parts: Parts, instance: Instance, snapshot: WarmSnapshot) -> None:
    """A fork failed of what only the snapshot can have given it."""
    if not parts.snapshots.note_failure(snapshot.key):
        return
    await parts.snapshots.remove(snapshot.key)
    why = "too many forks of it have failed, one after the other"
    if parts.snapshots.times_given_up(snapshot.key) >= WARM_TRIES:
        why += ", as those of the one before; the next is made when somebody asks for it"
    await tell(parts, EventKind.SNAPSHOT_REMOVED, instance, why)


async def _lay_out(parts: Parts, start: Start, snapshot: WarmSnapshot) -> Path:
    """Its disk, over the frozen one; where its RAM is."""
    directory = directory_of(parts, start.instance)
    (directory / FORKING).touch()
    sync(directory)
    await parts.faults.at("fork:marked")
    lent = await parts.snapshots.lend(snapshot, directory)
    await parts.faults.at("fork:lent")
    await parts.images.create_fork(lent.disk, directory / DISK)
    await parts.faults.at("fork:disk")
    return lent.ram


async def _run_on(
    parts: Parts, start: Start, config: GuestConfig, snapshot: WarmSnapshot, ram: Path
) -> None:
    """From there on, as the instance that its seed describes."""
    await parts.hypervisor.fork(config, ram)
    ram.unlink()
    await parts.faults.at("fork:guest")
    acceleration = (await parts.hypervisor.acceleration()).acceleration
    await parts.guests.become(
        config.name,
        epoch=parts.clock.now(),
        keep_service=start.spec.keep_service and snapshot.with_service,
        timeout_seconds=BECOME_SECONDS * acceleration.time_scale,
    )
    await parts.faults.at("fork:told")


async def _connect(parts: Parts, start: Start) -> None:
    await parts.hypervisor.raise_link(domain_of(parts, start.instance))
    await parts.faults.at("fork:linked")
    directory = directory_of(parts, start.instance)
    (directory / FORKING).unlink()
    sync(directory)
    await parts.faults.at("fork:unmarked")


def forget_disks(directory: Path) -> None:
    """The mark of a fork goes last: until then they are thrown away again."""
    for name in (*_DISKS, FORKING):
        (directory / name).unlink(missing_ok=True)
    sync(directory)


async def _prepared(parts: Parts, start: Start) -> GuestConfig:
    """The seed on the host, and the domain's configuration that uses it and the disk."""
    instance, spec, manifest, record = start.instance, start.spec, start.manifest, start.record
    directory = directory_of(parts, instance)
    storage = await storage_of(parts, instance, spec, record.spec)
    acceleration = (await parts.hypervisor.acceleration()).acceleration
    bundle = bundle_for(
        instance,
        boot=instance.boot,
        spec=spec,
        image=manifest.run,
        network=record.network,
        keys=parts.keys,
        random_seed=parts.entropy.random_bytes(SEED_BYTES),
        time_scale=acceleration.time_scale,
        files=storage.files,
        mounts=storage.mounts,
    )
    await parts.guests.write_seed(directory / SEED, bundle)
    await parts.faults.at("start:seed")
    installation = parts.store.installation
    return guest_config(
        parts,
        spec,
        manifest,
        name=domain_of(parts, instance),
        uuid=instance.uuid,
        identity=GuestIdentity(
            owner=installation.id,
            environment=instance.environment,
            service=instance.service,
            ordinal=instance.ordinal,
            revision=instance.revision,
            image=manifest.digest,
            boot=instance.boot,
            subnet=record.network.inner,
        ),
        directory=directory,
        mac=instance.mac,
        network_index=record.network.index,
        tap=installation.tap(record.network.index, instance.inner_address),
        volumes=storage.disks,
    )
