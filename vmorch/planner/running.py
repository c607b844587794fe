"""The rules for an instance that should run. Pure; `lifecycle` puts them in order."""

from __future__ import annotations

from dataclasses import replace

from vmorch.model.event import EventKind
from vmorch.model.guest import GuestState
from vmorch.model.instance import Instance, State
from vmorch.model.spec import StartMode
from vmorch.planner.actions import CapGuest, DestroyGuest, Note, ResumeGuest, StartGuest
from vmorch.planner.faults import RUNS, died
from vmorch.planner.snapshot import InstanceView
from vmorch.planner.verdict import ALIVE, NOTHING, RESUME_SECONDS, Moment, Verdict

BURST_SECONDS = 30.0
"""The longest boot burst, before scaling: a service that never gets ready must not run uncapped."""

NO_WORD = "its guest is gone"
"""How a guest ended of which no event told, as when the daemon was down."""


def clear_the_crashed(view: InstanceView, moment: Moment) -> Verdict | None:
    """A panicked guest is kept by the hypervisor so that it can be told apart: first note how it
    ended, then clear it away, or the same name could not start again."""
    if view.guest is not GuestState.CRASHED:
        return None
    if view.instance.state in RUNS:
        return died(view, moment, view.end or "its kernel panicked")
    return Verdict(action=DestroyGuest(instance=view.instance, reason="its guest has crashed"))


def resume(view: InstanceView, moment: Moment) -> Verdict | None:
    """Whoever suspended it: a guest that should run does not stand still."""
    instance = view.instance
    if view.guest is not GuestState.PAUSED or instance.state is State.STOPPING:
        return None
    why = "unpaused" if instance.state is State.PAUSED else view.end or "it was suspended"
    if instance.not_before is not None and moment.now < instance.not_before:
        if instance.state is State.PAUSED or why in {"", instance.reason}:
            return Verdict(wake_at=instance.not_before)
        told = replace(instance, state=State.RUNNING, reason=why)
        return Verdict(action=Note(instance=told, kind=EventKind.INSTANCE_UNREADY, reason=why))
    again = moment.now + RESUME_SECONDS
    return Verdict(action=ResumeGuest(instance=instance, not_before=again, reason=why))


def adopt(view: InstanceView, moment: Moment) -> Verdict | None:
    """The guest runs, only our note of it is missing; or it was to go and is wanted again."""
    instance = view.instance
    if view.guest not in ALIVE or instance.state in {*RUNS, State.STOPPING}:
        return None
    how = "adopted" if instance.state in {State.STARTING, State.PENDING} else "wanted again"
    running = replace(
        instance,
        state=State.RUNNING,
        reason="booting" if instance.ready_at is None else how,
        started_at=instance.started_at or moment.now,
        deadline=None,
    )
    return Verdict(action=Note(instance=running, kind=EventKind.INSTANCE_RUNNING, reason=how))


def start(view: InstanceView, moment: Moment) -> Verdict | None:
    instance = view.instance
    if view.guest in ALIVE or instance.state not in {State.PENDING, State.STARTING}:
        return None
    if instance.not_before is not None and moment.now < instance.not_before:
        return Verdict(wake_at=instance.not_before)
    if instance.state is State.STARTING:
        again = StartGuest(
            instance=instance,
            boot=instance.boot,
            reason="its start was interrupted",
            fork=instance.start is StartMode.FORK and moment.warm,
        )
        return Verdict(action=again)
    if moment.may_boot:
        return Verdict(
            action=StartGuest(
                instance=instance,
                boot=instance.boot + 1,
                reason="a new instance" if instance.boot == 0 else "restarted",
                fork=is_forked(instance, warm=moment.warm),
            )
        )
    if instance.reason != moment.waiting_for:
        waiting = replace(instance, reason=moment.waiting_for)
        return Verdict(
            action=Note(
                instance=waiting, kind=EventKind.INSTANCE_WAITING, reason=moment.waiting_for
            )
        )
    return NOTHING


def is_forked(instance: Instance, *, warm: bool) -> bool:
    """Whether its next start is a fork, if its revision has a warm snapshot. Only the first can
    be: later its disk is its own, and not what the snapshot's memory knows."""
    return instance.boot == 0 and warm


def note_death(view: InstanceView, moment: Moment) -> Verdict | None:
    instance = view.instance
    if view.guest in ALIVE:
        return None
    if instance.fault:
        return died(view, moment, instance.fault)
    if instance.state in RUNS:
        return died(view, moment, view.end or NO_WORD)
    return None


def start_anew(view: InstanceView, moment: Moment) -> Verdict | None:
    """Stopped, ended for good, or on its way there, and wanted again: with a clean record."""
    if view.guest in ALIVE:
        return None
    pending = replace(
        view.instance,
        state=State.PENDING,
        reason="wanted again",
        started_at=None,
        ready_at=None,
        not_before=None,
        deadline=None,
        capped=False,
        failures=0,
        exit_code=None,
    )
    return Verdict(
        action=Note(instance=pending, kind=EventKind.INSTANCE_WAITING, reason="wanted again")
    )


def tell_mishap(view: InstanceView, moment: Moment) -> Verdict | None:
    """What the console told is worth a word even when the service came back by itself."""
    instance = view.instance
    if instance.state not in RUNS or not view.mishap or view.mishap in instance.reason:
        return None
    told = replace(instance, reason=view.mishap)
    return Verdict(action=Note(instance=told, kind=EventKind.OUT_OF_MEMORY, reason=view.mishap))


def end_burst(view: InstanceView, moment: Moment) -> Verdict | None:
    """The cap comes before readiness: traffic must never meet an uncapped instance."""
    instance = view.instance
    if instance.capped or instance.state not in RUNS:
        return None
    burst_ends = (instance.started_at or moment.now) + BURST_SECONDS * moment.time_scale
    if view.healthy or moment.now >= burst_ends:
        why = "it is ready" if view.healthy else "the boot burst is over"
        return Verdict(action=CapGuest(instance=instance, cpus=view.spec.cpus, reason=why))
    return Verdict(action=_progress(view), wake_at=burst_ends)


def admit(view: InstanceView, moment: Moment) -> Verdict | None:
    instance = view.instance
    if instance.state is not State.RUNNING or not view.healthy:
        return None
    ready = replace(
        instance, state=State.READY, reason=view.mishap, ready_at=instance.ready_at or moment.now
    )
    return Verdict(
        action=Note(
            instance=ready, kind=EventKind.INSTANCE_READY, reason=view.health_message or "ready"
        )
    )


def withdraw(view: InstanceView, moment: Moment) -> Verdict | None:
    instance = view.instance
    if instance.state is not State.READY or view.healthy is not False:
        return None
    return Verdict(action=_waiting(instance, view, EventKind.INSTANCE_UNREADY))


def forgive(view: InstanceView, moment: Moment) -> Verdict | None:
    """A long good run ends the memory of failures: the next one starts the back-off anew."""
    instance = view.instance
    if instance.state is not State.READY or not instance.failures or instance.ready_at is None:
        return None
    window = view.spec.restart.window_seconds
    settled = instance.ready_at + window
    if moment.now < settled:
        return Verdict(wake_at=settled)
    return Verdict(
        action=Note(
            instance=replace(instance, failures=0),
            kind=EventKind.INSTANCE_SETTLED,
            reason=f"ready for {window:.0f} s",
        )
    )


def tell_progress(view: InstanceView, moment: Moment) -> Verdict | None:
    return Verdict(action=_progress(view))


def _progress(view: InstanceView) -> Note | None:
    """What a running, not yet ready instance waits for, told when it changes."""
    instance = view.instance
    if instance.state is not State.RUNNING or view.health_message == "":
        return None
    if instance.reason == _words(view):
        return None
    kind = EventKind.CLOUD_INIT_FAILED if view.cloud_init_failed else EventKind.INSTANCE_WAITING
    return _waiting(instance, view, kind)


def _waiting(instance: Instance, view: InstanceView, kind: EventKind) -> Note:
    words = _words(view)
    return Note(
        instance=replace(instance, state=State.RUNNING, reason=words), kind=kind, reason=words
    )


def _words(view: InstanceView) -> str:
    words = "; ".join(filter(None, (view.mishap, view.health_message)))
    return words or "its check fails"
