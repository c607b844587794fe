"""What to do about one instance: an ordered table of rules, the first that matches decides.

A purely computational module; `vmorch.planner.plan` collects what it answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vmorch.model.event import EventKind
from vmorch.model.guest import GuestState
from vmorch.model.instance import Instance, State
from vmorch.model.spec import RestartCondition
from vmorch.planner.actions import (
    Action,
    CapGuest,
    DestroyGuest,
    Note,
    RemoveInstance,
    ShutDownGuest,
    StartGuest,
)
from vmorch.planner.backoff import SETTLED_SECONDS, delay_seconds
from vmorch.planner.snapshot import InstanceView

BURST_SECONDS = 30.0
"""The longest boot burst, before scaling: a service that never gets ready must not run uncapped."""

DRAIN_POLL_SECONDS = 0.5
"""No event tells that a draining server's last session has ended."""

ALIVE = frozenset({GuestState.RUNNING, GuestState.PAUSED, GuestState.SHUTTING_DOWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What the rules for one instance may know beside its view. `may_boot`: a boot slot is free,
    its dependencies are there and so is its network; else `waiting_for` says what is not."""

    now: float
    time_scale: float
    may_boot: bool
    waiting_for: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """At most one action, and when to look again."""

    action: Action | None = None
    wake_at: float | None = None


NOTHING = Verdict()
Rule = Callable[[InstanceView, Moment], Verdict | None]


def decide(view: InstanceView, moment: Moment) -> Verdict:
    """The first matching rule's answer."""
    for rule in RULES_TO_RUN if view.wanted else RULES_TO_REMOVE:
        verdict = rule(view, moment)
        if verdict is not None:
            return verdict
    return NOTHING


def is_booting(view: InstanceView) -> bool:
    """Whether it takes one of the boot slots."""
    instance = view.instance
    if instance.state is State.STARTING:
        return True
    return instance.state is State.RUNNING and instance.ready_at is None and not instance.capped


# Both tables


def _leave_busy_alone(view: InstanceView, moment: Moment) -> Verdict | None:
    """Two actions on one guest at once would each act on what the other is changing."""
    return NOTHING if view.busy else None


# Towards running


def _clear_the_crashed(view: InstanceView, moment: Moment) -> Verdict | None:
    """A panicked guest is kept by the hypervisor so that it can be told apart: first note how it
    ended, then clear it away, or the same name could not start again."""
    if view.guest is not GuestState.CRASHED:
        return None
    if view.instance.state in {State.RUNNING, State.READY}:
        return _died(view, moment)
    return Verdict(action=DestroyGuest(instance=view.instance, reason="its guest has crashed"))


def _redo_half_start(view: InstanceView, moment: Moment) -> Verdict | None:
    """A guest that is still paused while we think it is starting was left so by a daemon that
    ended between creating it and letting it run: its limits may be missing."""
    if view.guest is GuestState.PAUSED and view.instance.state is State.STARTING:
        return Verdict(
            action=DestroyGuest(instance=view.instance, reason="its start was interrupted")
        )
    return None


def _adopt(view: InstanceView, moment: Moment) -> Verdict | None:
    """The guest runs, only our note of it is missing."""
    if view.guest in ALIVE and view.instance.state in {State.STARTING, State.PENDING}:
        return Verdict(action=_running(view.instance, moment.now, "adopted"))
    return None


def _start(view: InstanceView, moment: Moment) -> Verdict | None:
    instance = view.instance
    if view.guest in ALIVE or instance.state not in {State.PENDING, State.STARTING}:
        return None
    if instance.not_before is not None and moment.now < instance.not_before:
        return Verdict(wake_at=instance.not_before)
    if instance.state is State.STARTING:
        again = StartGuest(
            instance=instance, boot=instance.boot, reason="its start was interrupted"
        )
        return Verdict(action=again)
    if moment.may_boot:
        return Verdict(
            action=StartGuest(
                instance=instance,
                boot=instance.boot + 1,
                reason="a new instance" if instance.boot == 0 else "restarted",
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


def _note_death(view: InstanceView, moment: Moment) -> Verdict | None:
    if view.guest in ALIVE or view.instance.state not in {State.RUNNING, State.READY}:
        return None
    return _died(view, moment)


def _end_burst(view: InstanceView, moment: Moment) -> Verdict | None:
    """The cap comes before readiness: traffic must never meet an uncapped instance."""
    instance = view.instance
    if instance.capped or instance.state not in {State.RUNNING, State.READY}:
        return None
    burst_ends = (instance.started_at or moment.now) + BURST_SECONDS * moment.time_scale
    if view.healthy or moment.now >= burst_ends:
        why = "it is ready" if view.healthy else "the boot burst is over"
        return Verdict(action=CapGuest(instance=instance, cpus=view.spec.cpus, reason=why))
    return Verdict(action=_progress(view, moment), wake_at=burst_ends)


def _admit(view: InstanceView, moment: Moment) -> Verdict | None:
    instance = view.instance
    if instance.state is not State.RUNNING or not view.healthy:
        return None
    ready = replace(
        instance, state=State.READY, reason="", ready_at=instance.ready_at or moment.now
    )
    return Verdict(
        action=Note(instance=ready, kind=EventKind.INSTANCE_READY, reason=view.health_message)
    )


def _withdraw(view: InstanceView, moment: Moment) -> Verdict | None:
    instance = view.instance
    if instance.state is not State.READY or view.healthy is not False:
        return None
    unready = replace(instance, state=State.RUNNING, reason=view.health_message)
    return Verdict(
        action=Note(instance=unready, kind=EventKind.INSTANCE_UNREADY, reason=view.health_message)
    )


def _forgive(view: InstanceView, moment: Moment) -> Verdict | None:
    """A long good run ends the memory of failures: the next one starts the back-off anew."""
    instance = view.instance
    if instance.state is not State.READY or not instance.failures or instance.ready_at is None:
        return None
    settled = instance.ready_at + SETTLED_SECONDS
    if moment.now < settled:
        return Verdict(wake_at=settled)
    return Verdict(
        action=Note(
            instance=replace(instance, failures=0),
            kind=EventKind.INSTANCE_SETTLED,
            reason=f"ready for {SETTLED_SECONDS:.0f} s",
        )
    )


def _tell_progress(view: InstanceView, moment: Moment) -> Verdict | None:
    return Verdict(action=_progress(view, moment))


# Towards removal


def _drain(view: InstanceView, moment: Moment) -> Verdict | None:
    """Out of the proxy first: new requests go elsewhere while the running ones finish."""
    instance = view.instance
    if instance.state in {State.DRAINING, State.STOPPING} or view.guest not in ALIVE:
        return None
    grace = view.spec.stop_grace_period_seconds
    draining = replace(instance, state=State.DRAINING, deadline=moment.now + grace)
    return Verdict(
        action=Note(instance=draining, kind=EventKind.INSTANCE_DRAINING, reason=instance.reason)
    )


def _shut_down(view: InstanceView, moment: Moment) -> Verdict | None:
    instance = view.instance
    if instance.state is not State.DRAINING or view.guest not in ALIVE:
        return None
    drained = not view.admitted and view.sessions == 0
    over = instance.deadline is None or moment.now >= instance.deadline
    if not drained and not over:
        return Verdict(wake_at=moment.now + DRAIN_POLL_SECONDS)
    grace = view.spec.stop_grace_period_seconds * moment.time_scale
    why = "drained" if drained else f"{view.sessions} sessions outlasted stop_grace_period"
    return Verdict(action=ShutDownGuest(instance=instance, deadline=moment.now + grace, reason=why))


def _force(view: InstanceView, moment: Moment) -> Verdict | None:
    instance = view.instance
    if instance.state is not State.STOPPING or view.guest not in ALIVE:
        return None
    if instance.deadline is not None and moment.now < instance.deadline:
        return Verdict(wake_at=instance.deadline)
    return Verdict(
        action=DestroyGuest(instance=instance, reason="it did not shut down within its grace time")
    )


def _clear(view: InstanceView, moment: Moment) -> Verdict | None:
    if view.guest is None:
        return None
    return Verdict(action=DestroyGuest(instance=view.instance, reason="its guest has ended"))


def _remove(view: InstanceView, moment: Moment) -> Verdict | None:
    return Verdict(action=RemoveInstance(instance=view.instance, reason=view.instance.reason))


RULES_TO_RUN: tuple[Rule, ...] = (
    _leave_busy_alone,
    _clear_the_crashed,
    _redo_half_start,
    _adopt,
    _start,
    _note_death,
    _end_burst,
    _admit,
    _withdraw,
    _forgive,
    _tell_progress,
)

RULES_TO_REMOVE: tuple[Rule, ...] = (
    _leave_busy_alone,
    _drain,
    _shut_down,
    _force,
    _clear,
    _remove,
)


def _running(instance: Instance, now: float, how: str) -> Note:
    return Note(
        instance=replace(
            instance, state=State.RUNNING, reason="booting", started_at=instance.started_at or now
        ),
        kind=EventKind.INSTANCE_RUNNING,
        reason=how,
    )


def _progress(view: InstanceView, moment: Moment) -> Note | None:
    """What a running, not yet ready instance waits for, told when it changes."""
    instance = view.instance
    if instance.state is not State.RUNNING or view.health_message in {"", instance.reason}:
        return None
    kind = EventKind.CLOUD_INIT_FAILED if view.cloud_init_failed else EventKind.INSTANCE_WAITING
    return Note(
        instance=replace(instance, reason=view.health_message),
        kind=kind,
        reason=view.health_message,
    )


def _died(view: InstanceView, moment: Moment) -> Verdict:
    """Back to pending with a back-off, or the end where the restart policy says so."""
    instance, policy = view.instance, view.spec.restart
    end = view.end or "its guest is gone"
    failures = instance.failures + 1
    fresh = replace(
        instance,
        failures=failures,
        started_at=None,
        ready_at=None,
        capped=False,
        deadline=None,
    )
    over = policy.max_attempts is not None and failures > policy.max_attempts
    if policy.condition is RestartCondition.ON_FAILURE and view.ended_by_itself:
        final = replace(fresh, state=State.STOPPED, reason=end)
    elif policy.condition is RestartCondition.NONE or over:
        final = replace(fresh, state=State.FAILED, reason=end)
    else:
        wait = delay_seconds(failures, first=policy.delay_seconds)
        final = replace(
            fresh,
            state=State.PENDING,
            not_before=moment.now + wait,
            reason=f"{end}; restart {failures} in {wait:.0f} s",
        )
    return Verdict(action=Note(instance=final, kind=EventKind.INSTANCE_DIED, reason=final.reason))
