"""Actions, states and times in words for people. Pure."""

from __future__ import annotations

from vmorch.model.event import Event
from vmorch.model.instance import Goal, Instance, State
from vmorch.planner.actions import (
    Action,
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
    SleepGuest,
    StartGuest,
    SuspendGuest,
    WakeGuest,
    WarmUp,
)
from vmorch.planner.snapshot import InstanceView


def span(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def ago(event: Event, now: float) -> str:
    return f"{span(now - event.time)} ago"


def standing(view: InstanceView, now: float) -> str:
    """Where an instance is, for how long where that is known, and why."""
    instance = view.instance
    since = _since(instance)
    lasted = "" if since is None else f" for {span(now - since)}"
    reason = answer(view) or instance.reason
    return f"{instance.name} is {instance.state}{lasted}{f': {reason}' if reason else ''}"


def answer(view: InstanceView) -> str:
    """What its check last said, of an instance that is not ready for want of a good answer."""
    return view.health_message if view.instance.state is State.RUNNING else ""


def _since(instance: Instance) -> float | None:
    match instance.state:
        case State.RUNNING:
            return instance.started_at
        case State.READY:
            return instance.ready_at
        case State.PENDING if not instance.boot:
            return instance.created_at
        case _:
            return None


def told(action: Action) -> str:
    """What an action does, as a clause in the present."""
    match action:
        case Note():
            return _noted(action)
        case CreateInstance():
            return f"an instance of revision {action.revision} is created"
        case StartGuest():
            how = "forked from a warm snapshot" if action.fork else "booted"
            return f"its guest is {how} (boot {action.boot})"
        case CapGuest():
            return f"its boot burst ends in its cap of {action.cpus:g} CPUs"
        case SuspendGuest():
            return "its guest is paused"
        case ResumeGuest():
            return "its guest goes on"
        case SleepGuest():
            return "its memory is saved and its guest ends"
        case WakeGuest():
            return "its guest is resumed from its saved memory"
        case ShutDownGuest():
            return "its guest is asked to power off"
        case DestroyGuest():
            return "its guest is ended by force"
        case RemoveInstance():
            return "its disk and addresses are given up; its logs stay"
        case PutRollout():
            return f"its rollout goes on: {action.kind}"
        case RollBack():
            return f"it is rolled back to revision {action.to}"
        case WarmUp():
            return f"a warm snapshot of revision {action.revision} is made"
        case DestroyOrphan():
            return "a left-over guest is ended"
        case RemoveEnvironment():
            return "the environment is removed"


def _noted(note: Note) -> str:
    if note.instance.goal is Goal.REMOVE and note.instance.state not in _LEAVING:
        return "it is taken out of service and removed"
    return f"it becomes {note.instance.state}"


_LEAVING = frozenset({State.DRAINING, State.STOPPING})
