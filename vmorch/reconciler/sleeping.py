"""Puts guests to sleep and wakes them: their own memory in a file, and back.

Memory belongs to the disk as it was at that moment. So a guest goes on from its file once at most:
the file gets another name, durably, after the guest was restored and before it runs; whatever
ends in between, a file of that name without a guest is given up, as is any file before a cold boot.
May be cut off between any two effects, and is then repeated whole (see `perform`).
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from vmorch.durable import sync
from vmorch.errors import GuestError, HypervisorError, VmorchError
from vmorch.hypervisor.protocol import GuestLimits
from vmorch.model.event import EventKind
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.spec import StartMode
from vmorch.planner.actions import SleepGuest, WakeGuest
from vmorch.reconciler.booting import BESIDE_VCPUS, RAM, SPENT_RAM
from vmorch.reconciler.calls import raise_from_zero
from vmorch.reconciler.parts import Parts
from vmorch.reconciler.perform import set_clock
from vmorch.reconciler.starting import Start, directory_of, forget_memory, start_of
from vmorch.reconciler.telling import domain_of, tell

SYNC_SECONDS = 10.0
TIME_SECONDS = 5.0
"""How long a woken guest may take to set its clock. Before scaling."""
PAUSES_SECONDS = (1.0, 4.0)
"""Between tries to restore a guest, as when the host has too little memory just then."""
_SYNC = ("/usr/lib/vmorch/busybox", "sync")


async def sleep_guest(parts: Parts, action: SleepGuest) -> None:
    instance, domain = action.instance, domain_of(parts, action.instance)
    directory = directory_of(parts, instance)
    # Should its memory be lost, then not what it has written. Best effort: it may have no agent.
    with contextlib.suppress(VmorchError):
        await parts.guests.run(domain, _SYNC, SYNC_SECONDS)
    await parts.faults.at("sleep:synced")
    (directory / SPENT_RAM).unlink(missing_ok=True)
    try:
        await parts.hypervisor.save(domain, directory / RAM)
    except HypervisorError as error:
        await _stay_awake(parts, instance, error)
        return
    await parts.faults.at("sleep:saved")
    mebibytes = (directory / RAM).stat().st_size / 2**20
    asleep = replace(
        instance,
        state=State.SLEEPING,
        saving=False,
        reason=action.reason,
        started_at=None,
        not_before=None,
        deadline=None,
    )
    await parts.store.put_instance(asleep)
    await parts.faults.at("sleep:recorded")
    await tell(
        parts, EventKind.INSTANCE_SLEEPING, asleep, f"{mebibytes:.0f} MiB of memory are saved"
    )


async def _stay_awake(parts: Parts, instance: Instance, error: HypervisorError) -> None:
    """Out of the proxy it is of no use, and room for its memory may never come: it goes on."""
    there = await _is_there(parts, instance)
    why = f"it could not be put to sleep: {error.message}"
    await parts.faults.at("sleep:failed")
    await tell(parts, EventKind.SLEEP_FAILED, instance, f"{why} {error.hint}".strip())
    awake = replace(instance, saving=False, deadline=None, reason=why)
    if not there:
        await parts.store.put_instance(_without_guest(awake, why))
        return
    if instance.goal is Goal.RUN:
        # It was idle, and is left alone until it has been so once more.
        why = "as it could not be put to sleep"
        await raise_from_zero(parts, instance.environment, instance.service, why)
    # Not if its user has decided otherwise meanwhile.
    wanted = {i.key: i.goal for i in await parts.store.instances(instance.environment)}
    await parts.store.put_instance(
        replace(awake, goal=Goal.RUN, state=State.RUNNING),
        decides_goal=wanted.get(instance.key) is Goal.SLEEP,
    )


async def wake_guest(parts: Parts, action: WakeGuest) -> None:
    instance = replace(
        action.instance,
        state=State.STARTING,
        start=StartMode.RESUME,
        reason=action.reason,
        not_before=None,
        deadline=None,
        fault="",
    )
    await parts.store.put_instance(instance)
    await parts.faults.at("wake:intended")
    await tell(parts, EventKind.INSTANCE_STARTING, instance, f"from its memory: {action.reason}")
    await parts.faults.at("wake:announced")
    start = await start_of(parts, instance)
    lost = await _resume(parts, start)
    if lost:
        await _give_up(parts, instance, lost)
        return
    await _set_clock(parts, start)
    await parts.faults.at("wake:told")
    # Not synced, as somebody may be waiting: whoever boots it after a power cut looks again.
    (directory_of(parts, instance) / SPENT_RAM).unlink(missing_ok=True)
    await parts.faults.at("wake:forgotten")
    awake = _awake(instance, parts.clock.now())
    await parts.store.put_instance(awake)
    await parts.faults.at("wake:recorded")
    await tell(parts, EventKind.INSTANCE_WOKEN, awake, action.reason)


def _awake(instance: Instance, now: float) -> Instance:
    """It goes on where it was: one that had been ready is so again, as somebody may be waiting.
    Its check goes on as well, and takes it away should that not be true."""
    was_ready = instance.ready_at is not None and instance.capped
    state = State.READY if was_ready else State.RUNNING
    return replace(instance, state=state, reason="" if was_ready else "woken", started_at=now)


async def _resume(parts: Parts, start: Start) -> str:
    """Let the guest go on; or say why its memory is lost: then there is no guest."""
    instance, directory = start.instance, directory_of(parts, start.instance)
    ram, spent = directory / RAM, directory / SPENT_RAM
    if not await _is_there(parts, instance):
        if spent.exists():
            return "its guest ended as it was woken."
        if not ram.exists():
            return "the file with it is gone."
    try:
        await _restore(parts, start)
    except HypervisorError as error:
        if await _is_there(parts, instance):
            raise
        return error.message
    await parts.faults.at("wake:restored")
    if ram.exists():
        ram.replace(spent)
        sync(directory)
    await parts.faults.at("wake:claimed")
    await parts.hypervisor.resume(domain_of(parts, instance))
    await parts.faults.at("wake:resumed")
    return ""


async def _restore(parts: Parts, start: Start) -> None:
    """Paused, with its limits. One that slept in its boot has its burst again."""
    instance, spec = start.instance, start.spec
    domain, directory = domain_of(parts, instance), directory_of(parts, instance)
    limits = GuestLimits(
        cpus=spec.cpus if instance.capped else spec.vcpus + BESIDE_VCPUS,
        vcpus=spec.vcpus,
        memory_bytes=max(spec.memory_bytes, start.manifest.boot.least_memory_bytes),
    )
    for pause in (*PAUSES_SECONDS, None):
        try:
            await parts.hypervisor.wake(domain, instance.uuid, limits, directory / RAM)
        except HypervisorError as error:
            if pause is None or not error.retryable:
                raise
            await parts.clock.sleep(pause)
        else:
            return


async def _set_clock(parts: Parts, start: Start) -> None:
    """The time stood still in it. Not every image has an agent, or one that knows our program."""
    if "agent" not in start.manifest.boot.supports:
        return
    domain = domain_of(parts, start.instance)
    acceleration = (await parts.hypervisor.acceleration()).acceleration
    seconds = TIME_SECONDS * acceleration.time_scale
    try:
        await parts.guests.wake(domain, epoch=parts.clock.now(), timeout_seconds=seconds)
    except GuestError as error:
        if not await set_clock(parts, domain):
            why = f"its clock may be wrong: {error.message}"
            await tell(parts, EventKind.ACTION_FAILED, start.instance, why)


async def _give_up(parts: Parts, instance: Instance, why: str) -> None:
    await parts.faults.at("wake:lost")
    await tell(
        parts, EventKind.MEMORY_LOST, instance, f"its memory is lost, as by a power cut: {why}"
    )
    await parts.store.put_instance(_without_guest(instance, f"its memory is lost: {why}"))
    await parts.faults.at("wake:given-up")
    forget_memory(directory_of(parts, instance))


def _without_guest(instance: Instance, reason: str) -> Instance:
    return replace(
        instance,
        state=State.PENDING,
        start=StartMode.COLD,
        reason=reason,
        started_at=None,
        ready_at=None,
        deadline=None,
        capped=False,
    )


async def _is_there(parts: Parts, instance: Instance) -> bool:
    """Raises HypervisorError: nobody knows; it is tried again."""
    domain = domain_of(parts, instance)
    return any(guest.name == domain for guest in await parts.hypervisor.guests())
