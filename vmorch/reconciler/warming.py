"""Makes warm snapshots: an anonymous guest of a revision is booted, its service warmed, and RAM and
disk are kept.

It knows no secret, has no volume, no address in the environment and its link is down: whatever
its memory holds, every fork of it holds too. What is cut off leaves a domain that no instance
claims and a draft; both are swept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

from vmorch.errors import GuestError, Refused, VmorchError
from vmorch.hypervisor.protocol import GuestIdentity
from vmorch.model.event import EventKind
from vmorch.model.spec import HealthKind, ServiceSpec
from vmorch.planner.actions import WarmUp
from vmorch.reconciler.booting import DISK, SEED, SEED_BYTES, guest_config
from vmorch.reconciler.identity import blank_bundle
from vmorch.reconciler.parts import Parts
from vmorch.snapshots.protocol import WarmSnapshot

_VERSION = 1
"""Raise it when the same revision should come to another snapshot."""
WARM_SECONDS = 30.0
"""How long the anonymous instance may take to get ready. Before scaling."""
_LOOK_SECONDS = 0.5
_CALL_SECONDS = 5.0
_BUSYBOX = "/usr/lib/vmorch/busybox"


def key_of(spec: ServiceSpec, fingerprint: str) -> str:
    """The digest of all that a snapshot's RAM and disk depend on. Of the host-side keys only those
    that a guest's service manager was told at its boot."""
    parts = [_VERSION, spec.name, spec.revision_digest(), fingerprint]
    parts += [spec.restart.condition, spec.stop_grace_period_seconds]
    text = json.dumps(parts, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


async def snapshot_for(parts: Parts, spec: ServiceSpec) -> WarmSnapshot | None:
    key = key_of(spec, await parts.hypervisor.fingerprint())
    return next((s for s in await parts.snapshots.all() if s.key == key), None)


async def warm_up(parts: Parts, action: WarmUp) -> None:
    """Make the snapshot, or leave nothing of it.

    Raises:
        VmorchError: the instance did not get ready, or something could not be made.
    """
    record = await parts.store.environment(action.environment)
    spec = record.spec.services.get(action.service)
    if spec is None or record.current[action.service] != action.revision:
        return  # it was replaced meanwhile
    if "agent" not in (await parts.images.manifest(spec.image)).boot.supports:
        raise Refused(
            f"The image of '{action.service}' has no guest agent, so no fork could be told who "
            "it is.",
            hint="'start: cold' says that it is meant so.",
        )
    key = key_of(spec, await parts.hypervisor.fingerprint())
    draft = await parts.snapshots.draft(key)
    await parts.faults.at("warm:draft")
    name = parts.store.installation.warm_domain(key)
    try:
        await _boot(parts, action, spec, key, draft)
        await _until_warm(parts, name, spec)
        await parts.faults.at("warm:ready")
        await parts.hypervisor.save(name, draft / "ram")
        await parts.faults.at("warm:saved")
        await parts.snapshots.publish(
            draft,
            key=key,
            service=action.service,
            image=spec.image,
            with_service=runs_blank(spec),
        )
        await parts.faults.at("warm:published")
    except VmorchError:
        await parts.hypervisor.destroy(name)
        await parts.snapshots.discard(draft)
        raise
    await parts.store.add_event(
        EventKind.SNAPSHOT_MADE,
        f"a warm snapshot of revision {action.revision}: new instances are forked from it",
        now=parts.clock.now(),
        environment=action.environment,
        service=action.service,
    )


def runs_blank(spec: ServiceSpec) -> bool:
    """Whether its service can run before it is given files and volumes."""
    return not spec.files and not spec.volumes


async def _boot(parts: Parts, action: WarmUp, spec: ServiceSpec, key: str, draft: Path) -> None:
    manifest = await parts.images.manifest(spec.image)
    await parts.images.create_disk(manifest.digest, draft / DISK, spec.disk_bytes)
    await parts.faults.at("warm:disk")
    acceleration = (await parts.hypervisor.acceleration()).acceleration
    bundle = blank_bundle(
        key,
        spec=spec,
        image=manifest.run,
        with_service=runs_blank(spec),
        random_seed=parts.entropy.random_bytes(SEED_BYTES),
        time_scale=acceleration.time_scale,
    )
    await parts.guests.write_seed(draft / SEED, bundle)
    installation = parts.store.installation
    network = (await parts.store.environment(action.environment)).network
    config = guest_config(
        parts,
        spec,
        manifest,
        name=installation.warm_domain(key),
        uuid=parts.entropy.uuid(),
        identity=GuestIdentity(
            owner=installation.id,
            environment=action.environment,
            service=action.service,
            ordinal=0,
            revision=action.revision,
            image=manifest.digest,
            boot=1,
            subnet=network.inner,
        ),
        directory=draft,
        mac=bundle.mac,
        network_index=network.index,
        tap=installation.warm_tap(key),
        linked=False,
    )
    # Known as one that is gone: whatever is left of it is ended by any later look.
    await parts.store.disown([config.uuid], now=parts.clock.now())
    await parts.faults.at("warm:disowned")
    await parts.hypervisor.start(config)
    await parts.faults.at("warm:guest")


async def _until_warm(parts: Parts, domain: str, spec: ServiceSpec) -> None:
    """Raises GuestError: it does not get ready in time."""
    acceleration = (await parts.hypervisor.acceleration()).acceleration
    seconds = (WARM_SECONDS + spec.healthcheck.start_period_seconds) * acceleration.time_scale
    deadline = parts.clock.now() + seconds
    why = "it did not answer"
    while parts.clock.now() < deadline:
        try:
            why = await _missing(parts, domain, spec)
        except GuestError as error:
            why = error.message
        if not why:
            return
        await parts.clock.sleep(_LOOK_SECONDS)
    raise GuestError(
        f"The anonymous instance of '{spec.name}' was not ready within {seconds:.0f} s: {why}.",
        hint="It has no network, secrets or volumes. 'start: cold' does without warm snapshots.",
    )


async def _missing(parts: Parts, domain: str, spec: ServiceSpec) -> str:
    """What it still lacks; empty when it is warm."""
    report = await parts.guests.report(domain, _CALL_SECONDS)
    if report.cloud_init == "running":
        return "cloud-init is at work"
    if not runs_blank(spec):
        return ""
    if report.service not in {"active", "none"}:
        return f"its service is {report.service}"
    check = _check(spec)
    if not check:
        return ""
    code, output = await parts.guests.run(domain, check, _CALL_SECONDS * 2)
    return (
        ""
        if code == 0
        else f"its check ended with {code}: {output[-200:].decode(errors='replace').strip()}"
    )


def _check(spec: ServiceSpec) -> tuple[str, ...]:
    """The health check from the inside, as the guest's link is down."""
    check = spec.healthcheck
    port = check.port or spec.main_port
    match check.kind:
        case HealthKind.HTTP:
            path = (check.argument or ("/",))[0]
            url = f"http://127.0.0.1:{port}/{path.lstrip('/')}"
            return (_BUSYBOX, "wget", "-q", "-O", "/dev/null", url)
        case HealthKind.TCP:
            return (_BUSYBOX, "nc", "127.0.0.1", str(port), "-e", "/bin/true")
        case HealthKind.CMD:
            return check.argument
        case HealthKind.CMD_SHELL:
            return ("/bin/sh", "-c", *check.argument)
    return ()


async def keep_only(parts: Parts, images: Collection[str]) -> None:
    """Remove the snapshots of images that are gone."""
    for snapshot in await parts.snapshots.all():
        if snapshot.image not in images:
            await parts.snapshots.remove(snapshot.key)
