"""The rules of sleep and wake. Pure; `vmorch.planner.lifecycle` puts them in order.

A sleep or wake that has begun is finished before anything else, whatever the goal is by then: only
then it is known again whether there is a guest or a file with its memory, and never both.
"""

from __future__ import annotations

from dataclasses import replace

from vmorch.model.event import EventKind
from vmorch.model.instance import Goal, State
from vmorch.model.spec import StartMode
from vmorch.planner.actions import Note, SleepGuest, WakeGuest
from vmorch.planner.leaving import DRAIN_POLL_SECONDS
from vmorch.planner.snapshot import EnvironmentView, InstanceView
from vmorch.planner.verdict import ALIVE, NOTHING, Moment, Verdict

ASLEEP_BY_USER = "put to sleep by the user"
ASLEEP_FOR_IDLENESS = "asleep until somebody asks for it"
LET_GO_SECONDS = 5.0
"""How long the proxy may take to close its connections; a proxy in trouble shall not keep it up."""


def at_rest(environment: EnvironmentView, view: InstanceView) -> bool:
    """Whether an instance that should run sleeps, or goes to sleep, as nobody asks for its service.
    It does not begin to as long as a rollout watches it, nor while something is wrong with it; and
    beside a canary nobody rests, or that one would get all requests."""
    instance, spec = view.instance, environment.services.get(view.instance.service)
    if instance.goal is not Goal.RUN or spec is None or not spec.is_asleep:
        return False
    rollout = environment.rollouts.get(instance.service)
    settled = rollout is None or not rollout.is_open
    if rollout is not None and not settled and rollout.canary is not None:
        return False
    if instance.state is State.SLEEPING or instance.saving:
        return True
    well = view.guest in ALIVE and not instance.fault
    return settled and well and instance.state in {State.READY, State.DRAINING}


def finish_sleep(view: InstanceView, moment: Moment) -> Verdict | None:
    """The proxy lets go first: a connection that outlasts the sleep would be dead on one side."""
    instance = view.instance
    if not instance.saving or (view.guest is not None and view.guest not in ALIVE):
        return None
    due = instance.deadline
    if view.guest is not None and view.routed and due is not None and moment.now < due:
        return Verdict(wake_at=min(due, moment.now + DRAIN_POLL_SECONDS))
    by_user = instance.goal is Goal.SLEEP
    why = ASLEEP_BY_USER if by_user else ASLEEP_FOR_IDLENESS
    return Verdict(action=SleepGuest(instance=instance, reason=why))


def finish_wake(view: InstanceView, moment: Moment) -> Verdict | None:
    instance = view.instance
    if instance.state is not State.STARTING or instance.start is not StartMode.RESUME:
        return None
    if view.guest is not None and view.guest not in ALIVE:
        return None
    return Verdict(action=WakeGuest(instance=instance, reason="its waking was interrupted"))


def withhold(view: InstanceView, moment: Moment) -> Verdict | None:
    """Out of the proxy first, as before a stop."""
    instance = view.instance
    if view.guest not in ALIVE or instance.state in {State.DRAINING, State.STOPPING}:
        return None
    leaving = replace(
        instance,
        state=State.DRAINING,
        reason="about to be put to sleep",
        deadline=moment.now + view.spec.stop_grace_period_seconds,
        fault="",
    )
    return Verdict(
        action=Note(instance=leaving, kind=EventKind.INSTANCE_DRAINING, reason=leaving.reason)
    )


def fall_asleep(view: InstanceView, moment: Moment) -> Verdict | None:
    """Sessions may end by themselves for as long as before a stop. If nobody ordered it, they may
    take their time."""
    instance = view.instance
    if instance.state is not State.DRAINING or view.guest not in ALIVE:
        return None
    over = instance.deadline is None or moment.now >= instance.deadline
    over = over and not moment.at_rest
    if not over and (view.admitted or view.sessions):
        return Verdict(wake_at=moment.now + DRAIN_POLL_SECONDS)
    saving = replace(
        instance,
        state=State.STOPPING,
        saving=True,
        reason="its memory is being saved",
        deadline=moment.now + LET_GO_SECONDS,
    )
    return Verdict(
        action=Note(instance=saving, kind=EventKind.INSTANCE_STOPPING, reason=saving.reason)
    )


def stay_asleep(view: InstanceView, moment: Moment) -> Verdict | None:
    """Whoever should only stand still does so in its sleep, too."""
    return NOTHING if _is_asleep(view) else None


def wake(view: InstanceView, moment: Moment) -> Verdict | None:
    instance = view.instance
    if not _is_asleep(view):
        return None
    if moment.may_boot:
        return Verdict(action=WakeGuest(instance=instance, reason="wanted again"))
    return _waiting(view, moment.waiting_for)


def _waiting(view: InstanceView, why: str) -> Verdict:
    instance = view.instance
    if instance.reason == why:
        return NOTHING
    waiting = replace(instance, reason=why)
    return Verdict(action=Note(instance=waiting, kind=EventKind.INSTANCE_WAITING, reason=why))


def wake_to_stop(view: InstanceView, moment: Moment) -> Verdict | None:
    """Its service ends as it would have: nothing that it only has in memory is lost."""
    return _wake_to_end(view, moment) if _is_asleep(view) else None


def wake_to_leave(view: InstanceView, moment: Moment) -> Verdict | None:
    """Only for its volumes, which outlive it. The rest would be deleted at once."""
    return _wake_to_end(view, moment) if _is_asleep(view) and view.spec.volumes else None


def _wake_to_end(view: InstanceView, moment: Moment) -> Verdict:
    if moment.no_room:
        return _waiting(view, moment.no_room)
    if not moment.may_wake:
        return NOTHING
    return Verdict(action=WakeGuest(instance=view.instance, reason="so that it can shut down"))


def _is_asleep(view: InstanceView) -> bool:
    return view.instance.state is State.SLEEPING and view.guest is None
