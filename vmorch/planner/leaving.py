"""The rules for an instance that should stop, stand still or go. Pure; `vmorch.planner.lifecycle`
puts them in order."""

from __future__ import annotations

from dataclasses import replace

from vmorch.model.event import EventKind
from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.planner.actions import (
    Note,
    RemoveInstance,
    ResumeGuest,
    ShutDownGuest,
    SuspendGuest,
)
from vmorch.planner.snapshot import InstanceView
from vmorch.planner.verdict import ALIVE, NOTHING, RESUME_SECONDS, Moment, Verdict

DRAIN_POLL_SECONDS = 0.5
"""No event tells that a draining server's last session has ended."""

STOPPED_BY_USER = "stopped by the user"
PAUSED_BY_USER = "paused by the user"
_SLEEPLESS = "there was no guest that could have been put to sleep"

_RESTING = frozenset({State.STOPPED, State.FAILED})


def wait_for_dependants(view: InstanceView, moment: Moment) -> Verdict | None:
    """Stopped in the reverse order of starting: what others still need to end well goes last."""
    if not moment.held_by or view.instance.state in {State.DRAINING, State.STOPPING}:
        return None
    return NOTHING if view.guest in ALIVE else None


def wake_up(view: InstanceView, moment: Moment) -> Verdict | None:
    """A guest that stands still can neither finish what it does nor shut down."""
    if view.guest is not GuestState.PAUSED or view.instance.state is State.STOPPING:
        return None
    instance = view.instance
    if instance.not_before is not None and moment.now < instance.not_before:
        return None
    return Verdict(
        action=ResumeGuest(
            instance=instance,
            not_before=moment.now + RESUME_SECONDS,
            reason="so that it can shut down",
        )
    )


def drain(view: InstanceView, moment: Moment) -> Verdict | None:
    """Out of the proxy first: new requests go elsewhere while the running ones finish."""
    instance = view.instance
    if instance.state in {State.DRAINING, State.STOPPING} or view.guest not in ALIVE:
        return None
    grace = view.spec.stop_grace_period_seconds
    reason = _why(instance)
    draining = replace(
        instance, state=State.DRAINING, reason=reason, deadline=moment.now + grace, fault=""
    )
    return Verdict(action=Note(instance=draining, kind=EventKind.INSTANCE_DRAINING, reason=reason))


def shut_down(view: InstanceView, moment: Moment) -> Verdict | None:
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


def rest(view: InstanceView, moment: Moment) -> Verdict | None:
    """Its guest has ended; its disk, addresses and name stay."""
    instance = view.instance
    if view.guest is not None or instance.state in _RESTING:
        return NOTHING
    reason = _why(instance)
    stopped = replace(
        instance,
        state=State.STOPPED,
        reason=reason,
        started_at=None,
        ready_at=None,
        not_before=None,
        deadline=None,
        capped=False,
        fault="",
    )
    return Verdict(action=Note(instance=stopped, kind=EventKind.INSTANCE_STOPPED, reason=reason))


def remove(view: InstanceView, moment: Moment) -> Verdict | None:
    if view.guest is not None:
        return NOTHING
    reason = view.instance.reason or "nobody wants it any more"
    return Verdict(action=RemoveInstance(instance=view.instance, reason=reason))


def note_pause(view: InstanceView, moment: Moment) -> Verdict | None:
    instance = view.instance
    if view.guest is not GuestState.PAUSED:
        return None
    if instance.state is State.PAUSED:
        return NOTHING
    paused = replace(instance, state=State.PAUSED, reason=PAUSED_BY_USER, deadline=None)
    return Verdict(
        action=Note(instance=paused, kind=EventKind.INSTANCE_PAUSED, reason=PAUSED_BY_USER)
    )


def withhold(view: InstanceView, moment: Moment) -> Verdict | None:
    """Out of the proxy before it stands still: what it would be given now would wait for ever."""
    instance = view.instance
    if view.guest not in ALIVE or instance.state in {State.DRAINING, State.STOPPING}:
        return None
    if instance.state is State.PAUSED:
        return None
    grace = view.spec.stop_grace_period_seconds
    waiting = replace(
        instance,
        state=State.DRAINING,
        reason="about to be paused",
        deadline=moment.now + grace,
        fault="",
    )
    return Verdict(
        action=Note(instance=waiting, kind=EventKind.INSTANCE_DRAINING, reason=waiting.reason)
    )


def suspend(view: InstanceView, moment: Moment) -> Verdict | None:
    """Sessions that are open stay so, and go on with the guest."""
    instance = view.instance
    if view.guest is not GuestState.RUNNING or instance.state is State.STOPPING:
        return None
    over = instance.deadline is None or moment.now >= instance.deadline
    if view.admitted and not over:
        return Verdict(wake_at=moment.now + DRAIN_POLL_SECONDS)
    return Verdict(action=SuspendGuest(instance=instance, reason=PAUSED_BY_USER))


def _why(instance: Instance) -> str:
    """A removal and an end for good bring their reason with them."""
    if instance.goal is Goal.STOP and instance.exit_code is None:
        return STOPPED_BY_USER
    if instance.goal is Goal.PAUSE:
        return "its guest ended before it could be paused"
    if instance.goal is Goal.SLEEP:
        return _SLEEPLESS
    return instance.reason or "nobody wants it any more"
