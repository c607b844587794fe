"""What happens next: the planner's own answer, asked for now and for later. Pure.

A rule whose time has not come yet answers only then, so the plan is made of the same snapshot for
each moment at which something of the instance falls due.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vmorch.planner.actions import (
    ABOUT_ONE_INSTANCE,
    Action,
    CreateInstance,
    Note,
    PutRollout,
    RollBack,
    WarmUp,
)
from vmorch.planner.faults import UNHEALTHY_SECONDS
from vmorch.planner.plan import plan
from vmorch.planner.running import BURST_SECONDS
from vmorch.planner.snapshot import InstanceView, Snapshot
from vmorch.planner.words import told


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What will happen at `at` (seconds since the epoch) if nothing else does before."""

    at: float
    what: str
    reason: str


class Forecast:
    """What the planner does with `snapshot`, each moment being asked of it once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._plans: dict[float, Sequence[Action]] = {}

    def next_step(self, view: InstanceView, now: float) -> Step | None:
        """The first thing that will be done about the instance; None: nothing, by itself."""
        for at in (now, *_due(self.snapshot, view, now)):
            action = self._about(view, at)
            if action is not None and not _only_tells(action, view):
                return Step(at=at, what=told(action), reason=action.reason)
        return None

    def obstacle(self, view: InstanceView, now: float) -> str:
        """What a start (or a waking) that is due at `now` waits for; empty when for nothing."""
        action = self._about(view, now)
        if action is None:
            return view.instance.reason
        return action.reason if _only_tells(action, view) else ""

    def of_service(self, environment: str, service: str, now: float) -> Iterator[Step]:
        """What is about to be done to a service as a whole."""
        for action in self._planned(now):
            if _service_of(action) == (environment, service):
                yield Step(at=now, what=told(action), reason=action.reason)

    def _about(self, view: InstanceView, at: float) -> Action | None:
        for action in self._planned(at):
            if isinstance(action, ABOUT_ONE_INSTANCE) and action.instance.key == view.instance.key:
                return action
        return None

    def _planned(self, at: float) -> Sequence[Action]:
        if at not in self._plans:
            self._plans[at] = plan(self.snapshot, at).actions
        return self._plans[at]


def _service_of(action: Action) -> tuple[str, str] | None:
    """Of an action that is about a service as a whole."""
    match action:
        case CreateInstance() | WarmUp():
            return action.environment, action.service
        case PutRollout() | RollBack():
            return action.rollout.environment, action.rollout.service
        case _:
            return None


def _only_tells(action: Action, view: InstanceView) -> bool:
    """Whether it changes nothing but the words about the instance."""
    if not isinstance(action, Note):
        return False
    before, after = view.instance, action.instance
    return (before.state, before.goal) == (after.state, after.goal)


def _due(snapshot: Snapshot, view: InstanceView, now: float) -> list[float]:
    """The moments to come at which a rule may change its mind, soonest first."""
    instance, scale = view.instance, snapshot.time_scale
    moments = [instance.not_before, instance.deadline]
    if instance.started_at is not None and not instance.capped:
        moments.append(instance.started_at + BURST_SECONDS * scale)
    if instance.ready_at is not None and view.unhealthy_since is not None:
        moments.append(view.unhealthy_since + UNHEALTHY_SECONDS * scale)
    return sorted(at for at in moments if at is not None and at > now)
