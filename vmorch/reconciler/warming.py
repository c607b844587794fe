"""Makes warm snapshots: an anonymous guest of a revision is booted, its service warmed, and RAM and
disk are kept.

It knows no secret, has no volume, no address in the environment and its link is down: whatever
its memory holds, every fork of it holds too. What is cut off leaves a domain that no instance
claims and a draft; both are swept.
"""

from __future__ import annotations

from pathlib import Path

from vmorch.errors import GuestError, NotFound, VmorchError
from vmorch.hypervisor.protocol import GuestIdentity
from vmorch.model.event import EventKind
from vmorch.model.spec import HealthKind, ServiceSpec
from vmorch.planner.actions import WarmUp
from vmorch.reconciler.booting import DISK, RAM, SEED, SEED_BYTES, guest_config
from vmorch.reconciler.checks import (
    check_port,
    effective_check,
    ports_of,
    probe_from_inside,
)
from vmorch.reconciler.identity import blank_bundle
from vmorch.reconciler.parts import Parts
from vmorch.snapshots.protocol import WarmSnapshot
from vmorch.snapshots.subject import key_of, refuse_unable
from vmorch.snapshots.upkeep import keep_few

WARM_SECONDS = 30.0
"""How long the anonymous instance may take to get ready. Before scaling."""
_LOOK_SECONDS = 0.5
_CALL_SECONDS = 5.0
_BEGUN = "an anonymous instance of revision {} boots, for a warm snapshot"
_MADE = "a warm snapshot of revision {}: new instances are forked from it"


async def snapshot_for(parts: Parts, spec: ServiceSpec) -> WarmSnapshot | None:
    key = key_of(spec, await parts.hypervisor.fingerprint())
    return next((s for s in await parts.snapshots.all() if s.key == key), None)


async def warm_up(parts: Parts, action: WarmUp) -> WarmSnapshot | None:
    """Make the snapshot, or leave nothing of it. None: its revision was replaced meanwhile.

    Raises:
        VmorchError: the instance did not get ready, or something could not be made.
    """
    try:
        return await _warm_up(parts, action)
    except VmorchError:
        if await _declared(parts, action) is None:
            return None
        raise


async def _declared(parts: Parts, action: WarmUp) -> ServiceSpec | None:
    """The revision as it is declared; None: it is no more."""
    try:
        record = await parts.store.environment(action.environment)
    except NotFound:
        return None
    if record.removing:
        return None
    return record.declared.get((action.environment, action.service, action.revision))


async def _warm_up(parts: Parts, action: WarmUp) -> WarmSnapshot | None:
    spec = await _declared(parts, action)
    if spec is None:
        return None
    manifest = await parts.images.manifest(spec.image)
    refuse_unable(spec, manifest)
    key = key_of(spec, await parts.hypervisor.fingerprint())
    await _tell(parts, EventKind.SNAPSHOT_BEGUN, action, _BEGUN.format(action.revision))
    draft = await parts.snapshots.draft(key)
    await parts.faults.at("warm:draft")
    name = parts.store.installation.warm_domain(key)
    try:
        await _boot(parts, action, spec, key, draft)
        await _until_warm(parts, action, name, spec)
        await parts.faults.at("warm:ready")
        await parts.hypervisor.save(name, draft / RAM)
        await parts.faults.at("warm:saved")
        await parts.hypervisor.share(draft / DISK)
        await parts.faults.at("warm:shared")
        if await parts.images.manifest(spec.image) != manifest:
            # Built again, it may have come to other bytes than the RAM knows.
            raise VmorchError(f"The image of '{action.service}' was removed meanwhile.")
        made = await parts.snapshots.publish(
            draft,
            key=key,
            service=action.service,
            image=spec.image,
            with_service=runs_blank(spec),
        )
        await parts.faults.at("warm:published")
    except (VmorchError, OSError):
        try:
            await parts.hypervisor.destroy(name)
        finally:
            await parts.snapshots.discard(draft)
        raise
    await _tell(parts, EventKind.SNAPSHOT_MADE, action, _MADE.format(action.revision))
    await _bound(parts, action)
    return made


async def _tell(parts: Parts, kind: EventKind, action: WarmUp, message: str) -> None:
    await parts.store.add_event(
        kind,
        message,
        now=parts.clock.now(),
        environment=action.environment,
        service=action.service,
    )


async def _bound(parts: Parts, action: WarmUp) -> None:
    fingerprint = await parts.hypervisor.fingerprint()
    declared = {
        key_of(spec, fingerprint)
        for environment in await parts.store.environments()
        for spec in environment.spec.services.values()
    }
    bound = parts.settings.snapshots_kept
    for gone in await keep_few(parts.snapshots, bound, declared):
        why = f"{gone.key[:12]}, of a '{gone.service}' that is no more: {bound} are kept"
        await _tell(parts, EventKind.SNAPSHOT_REMOVED, action, why)


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


async def _until_warm(parts: Parts, action: WarmUp, domain: str, spec: ServiceSpec) -> None:
    """Raises GuestError: it does not get ready in time, or nobody wants it any more."""
    acceleration = (await parts.hypervisor.acceleration()).acceleration
    check = effective_check(spec, await parts.images.manifest(spec.image))
    seconds = (WARM_SECONDS + check.start_period_seconds) * acceleration.time_scale
    deadline = parts.clock.now() + seconds
    why = "it did not answer"
    while parts.clock.now() < deadline:
        if await _declared(parts, action) is None:
            raise GuestError(f"The revision of '{spec.name}' is declared no more.")
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
    code, output = await _asked(parts, domain, spec)
    words = output[-200:].decode(errors="replace").strip()
    return "" if code == 0 else f"its check ended with {code}: {words}"


async def _asked(parts: Parts, domain: str, spec: ServiceSpec) -> tuple[int, bytes]:
    """Its health check, from the inside, as the guest's link is down."""
    manifest = await parts.images.manifest(spec.image)
    check = effective_check(spec, manifest)
    seconds = _CALL_SECONDS + check.timeout_seconds
    match check.kind:
        case HealthKind.CMD:
            return await parts.guests.run_as_service(domain, check.argument, seconds)
        case HealthKind.CMD_SHELL:
            shell = ("/bin/sh", "-c", *check.argument)
            return await parts.guests.run_as_service(domain, shell, seconds)
    probe = probe_from_inside(check, check_port(check, ports_of(spec, manifest)))
    return await parts.guests.run(domain, probe, seconds) if probe else (0, b"")
