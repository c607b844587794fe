"""What a rule about one instance is told and what it answers; rules that all tables share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vmorch.model.guest import GuestState
from vmorch.model.instance import State
from vmorch.model.spec import StartMode
from vmorch.planner.actions import Action, DestroyGuest
from vmorch.planner.snapshot import InstanceView

ALIVE = frozenset({GuestState.RUNNING, GuestState.PAUSED, GuestState.SHUTTING_DOWN})

RESUME_SECONDS = 10.0
"""A guest that was suspended because the host's disk is full is so again at its next write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What the rules for one instance may know beside its view. `may_boot`: a boot slot is free,
    its dependencies are there and so are its network and room on the host; else `waiting_for` says
    what is not. `may_wake`: a slot and its network are there, and beside room its end asks for no
    more; `no_room` says what of the host is lacking. `warm`: its revision has a warm snapshot.
    `held_by` names a service that needs this one and is still on its way down. `at_rest`: it should
    run, but sleeps until somebody asks for its service."""

    now: float
    time_scale: float
    may_boot: bool
    may_wake: bool = False
    no_room: str = ""
    waiting_for: str = ""
    held_by: str = ""
    warm: bool = False
    at_rest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """At most one action, and when to look again."""

    action: Action | None = None
    wake_at: float | None = None


NOTHING = Verdict()
Rule = Callable[[InstanceView, Moment], Verdict | None]


def leave_busy_alone(view: InstanceView, moment: Moment) -> Verdict | None:
    """Two actions on one guest at once would each act on what the other is changing."""
    return NOTHING if view.busy else None


def redo_half_start(view: InstanceView, moment: Moment) -> Verdict | None:
    """A guest that is still paused while we think it is starting was left so by a daemon that
    ended between creating it and letting it run: its limits may be missing."""
    instance = view.instance
    half_forked = instance.state is State.STARTING and instance.start is StartMode.FORK
    if view.guest in ALIVE and half_forked:
        reason = "its fork was interrupted: it may not know who it is"
        return Verdict(action=DestroyGuest(instance=instance, reason=reason))
    if view.guest is GuestState.PAUSED and view.instance.state in {State.STARTING, State.PENDING}:
        return Verdict(
            action=DestroyGuest(instance=view.instance, reason="its start was interrupted")
        )
    return None


def force(view: InstanceView, moment: Moment) -> Verdict | None:
    instance = view.instance
    if instance.state is not State.STOPPING or view.guest not in ALIVE:
        return None
    if instance.deadline is not None and moment.now < instance.deadline:
        return Verdict(wake_at=instance.deadline)
    why = instance.fault or "it did not shut down within its grace time"
    return Verdict(action=DestroyGuest(instance=instance, reason=why))


def clear(view: InstanceView, moment: Moment) -> Verdict | None:
    """What is left of a guest that has ended would keep its name from the next one."""
    if view.guest is None or view.guest in ALIVE:
        return None
    return Verdict(action=DestroyGuest(instance=view.instance, reason="its guest has ended"))
