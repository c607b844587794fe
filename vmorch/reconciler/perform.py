"""Performs the planner's actions, one small function each.

Every function may be cut off between any two of its effects (the fault points name them) and is
then repeated whole by a later plan: intent is written before the effect, the result after it,
and each effect is safe to repeat.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from vmorch.errors import NotFound, Refused, VmorchError
from vmorch.model.event import EventKind
from vmorch.model.instance import State
from vmorch.model.rollout import Rollout
from vmorch.planner.actions import (
    CapGuest,
    CreateInstance,
    DestroyGuest,
    DestroyOrphan,
    Note,
    PutRollout,
    RemoveEnvironment,
    RemoveInstance,
    ResumeGuest,
    RollBack,
    ShutDownGuest,
    SuspendGuest,
)
from vmorch.reconciler.booting import SEED
from vmorch.reconciler.parts import Parts
from vmorch.reconciler.starting import forget_disks, forget_memory
from vmorch.reconciler.storage import remove_volumes
from vmorch.reconciler.telling import domain_of, tell

SET_CLOCK_SECONDS = 5.0
LOGS_KEPT = 20
"""Directories of gone instances kept for their logs, per environment."""


async def create_instance(parts: Parts, action: CreateInstance) -> None:
    instance = await parts.store.create_instance(
        action.environment,
        action.service,
        action.revision,
        uuid=parts.entropy.uuid(),
        now=parts.clock.now(),
    )
    await parts.faults.at("create:recorded")
    await tell(parts, EventKind.INSTANCE_CREATED, instance, action.reason)


async def note(parts: Parts, action: Note) -> None:
    await parts.store.put_instance(action.instance, decides_goal=action.decides_goal)
    await parts.faults.at("note:recorded")
    await tell(parts, action.kind, action.instance, action.reason)


async def put_rollout(parts: Parts, action: PutRollout) -> None:
    try:
        await parts.store.put_rollout(action.rollout, was=action.was)
    except Refused:
        return  # A user's order came first; the next look sees what is to be done now.
    await parts.faults.at("rollout:recorded")
    await _tell_rollout(parts, action.rollout, action.kind, action.reason)


async def roll_back(parts: Parts, action: RollBack) -> None:
    try:
        await parts.store.roll_back(
            action.rollout,
            action.to,
            was=action.was,
            reason=action.reason,
            now=parts.clock.now(),
        )
    except (NotFound, Refused):
        return
    await parts.faults.at("rollback:recorded")
    back = f"back to revision {action.to}: {action.reason}"
    await _tell_rollout(parts, action.rollout, EventKind.ROLLED_BACK, back)


async def _tell_rollout(parts: Parts, rollout: Rollout, kind: EventKind, message: str) -> None:
    await parts.store.add_event(
        kind,
        message,
        now=parts.clock.now(),
        environment=rollout.environment,
        service=rollout.service,
    )


async def cap_guest(parts: Parts, action: CapGuest) -> None:
    await parts.hypervisor.set_cpus(domain_of(parts, action.instance), action.cpus)
    await parts.faults.at("cap:set")
    await parts.store.put_instance(replace(action.instance, capped=True))
    await parts.faults.at("cap:recorded")
    await tell(
        parts, EventKind.GUEST_CAPPED, action.instance, f"{action.cpus:g} CPUs: {action.reason}"
    )


async def suspend_guest(parts: Parts, action: SuspendGuest) -> None:
    await parts.hypervisor.suspend(domain_of(parts, action.instance))
    await parts.faults.at("suspend:done")
    paused = replace(
        action.instance, state=State.PAUSED, reason=action.reason, deadline=None, not_before=None
    )
    await parts.store.put_instance(paused)
    await tell(parts, EventKind.INSTANCE_PAUSED, paused, action.reason)


async def resume_guest(parts: Parts, action: ResumeGuest) -> None:
    domain = domain_of(parts, action.instance)
    await parts.hypervisor.resume(domain)
    await parts.faults.at("resume:done")
    running = replace(
        action.instance,
        state=State.RUNNING,
        reason="resumed",
        deadline=None,
        not_before=action.not_before,
    )
    await parts.store.put_instance(running)
    await tell(parts, EventKind.INSTANCE_RESUMED, running, action.reason)
    await set_clock(parts, domain)


async def set_clock(parts: Parts, domain: str) -> bool:
    """A guest's clock stood still with it. Best effort: not every image has an agent."""
    nanoseconds = {"time": int(parts.clock.now() * 1e9)}
    try:
        await parts.hypervisor.agent(domain, "guest-set-time", nanoseconds, SET_CLOCK_SECONDS)
    except VmorchError:
        return False
    return True


async def shut_down_guest(parts: Parts, action: ShutDownGuest) -> None:
    """The guest is asked before it is noted: a daemon that ends in between asks again, where one
    that had only noted it would wait for the deadline and pull the plug. A fault is noted first,
    or the end that it is given would look like one of the guest's own."""
    instance = replace(action.instance, state=State.STOPPING, deadline=action.deadline)
    if not instance.fault:
        await parts.hypervisor.shutdown(domain_of(parts, instance))
        await parts.faults.at("shutdown:asked")
    await parts.store.put_instance(instance)
    await parts.faults.at("shutdown:recorded")
    await tell(parts, EventKind.INSTANCE_STOPPING, instance, action.reason)
    await parts.faults.at("shutdown:told")
    if instance.fault:
        await parts.hypervisor.shutdown(domain_of(parts, instance))


async def destroy_guest(parts: Parts, action: DestroyGuest) -> None:
    await parts.hypervisor.destroy(domain_of(parts, action.instance))
    await parts.faults.at("destroy:done")
    await tell(parts, EventKind.GUEST_DESTROYED, action.instance, action.reason)


async def destroy_orphan(parts: Parts, action: DestroyOrphan) -> None:
    await parts.hypervisor.destroy(action.domain)
    await parts.faults.at("orphan:destroyed")
    await parts.store.add_event(
        EventKind.UNKNOWN_GUEST,
        f"{action.domain} was ended: {action.reason}",
        now=parts.clock.now(),
        environment="",
    )


async def remove_instance(parts: Parts, action: RemoveInstance) -> None:
    instance = action.instance
    directory = parts.settings.instance_dir(instance.environment, instance.name)
    forget_memory(directory)
    if directory.is_dir():
        forget_disks(directory)
    await parts.faults.at("remove:disk")
    (directory / SEED).unlink(missing_ok=True)
    await parts.faults.at("remove:files")
    await parts.store.delete_instance(*instance.key, now=parts.clock.now())
    await parts.faults.at("remove:recorded")
    await tell(parts, EventKind.INSTANCE_REMOVED, instance, action.reason)
    await parts.faults.at("remove:told")
    kept = {i.name for i in await parts.store.instances(instance.environment)}
    _forget_old_logs(directory.parent, kept)


def _forget_old_logs(environment_dir: Path, alive: set[str]) -> None:
    """Logs outlive their guest, but not for ever: a service that is rolled out for a year would
    fill the disk with the logs of thousands of gone instances."""
    if not environment_dir.is_dir():
        return
    gone = [d for d in environment_dir.iterdir() if d.is_dir() and d.name not in alive]
    gone.sort(key=lambda d: d.stat().st_mtime, reverse=True)
    for directory in gone[LOGS_KEPT:]:
        shutil.rmtree(directory, ignore_errors=True)


async def remove_environment(parts: Parts, action: RemoveEnvironment) -> None:
    record = await parts.store.environment(action.environment)
    await parts.network.remove(record.network.index)
    await parts.faults.at("remove-environment:network")
    shutil.rmtree(parts.settings.instance_dir(record.name, ""), ignore_errors=True)
    await parts.faults.at("remove-environment:files")
    await remove_volumes(parts, record.name)
    await parts.store.add_event(
        EventKind.ENVIRONMENT_REMOVED,
        action.reason,
        now=parts.clock.now(),
        environment=record.name,
    )
    await parts.faults.at("remove-environment:told")
    await parts.store.forget(record.name)
