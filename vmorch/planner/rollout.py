"""How a rollout goes on: who has passed, who has failed, what follows, when it is done. Pure.

`replicas` acts on what is decided here: it makes and dismisses instances. Compose's words for
what a user may choose (`update_config`, `rollback_config`) are in `vmorch.model.rollout`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vmorch.model.event import EventKind
from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, State
from vmorch.model.rollout import FailureAction, Phase, Rollout, UpdateConfig
from vmorch.model.spec import ServiceSpec
from vmorch.planner.actions import PutRollout, RollBack
from vmorch.planner.snapshot import EnvironmentView, InstanceView

UNREADY_SECONDS = 30.0
"""How long a new revision's instance may fail its check before it counts as failed. Its start
period and the check's retries are over by then, so this is on top of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What the rollout of one service goes by: its instances of the `new` revision and the `old`
    ones, both without those that are on their way out. `available` are the new ones that can
    stand for an old one."""

    rollout: Rollout
    config: UpdateConfig
    replicas: int
    new: tuple[InstanceView, ...]
    old: tuple[InstanceView, ...]
    available: tuple[InstanceView, ...]

    @property
    def held(self) -> bool:
        """Nothing more is replaced until a user says so."""
        return self.rollout.phase is Phase.PAUSED or self.rollout.canary is not None

    @property
    def parallelism(self) -> int:
        return self.config.parallelism or max(1, self.replicas)

    @property
    def canaries(self) -> int:
        return self.rollout.canaries(self.replicas)

    def has_passed(self, view: InstanceView) -> bool:
        return _has_passed(self.rollout, view)


def _has_passed(rollout: Rollout, view: InstanceView) -> bool:
    return not rollout.is_open or view.instance.ordinal in rollout.passed


def course_of(environment: EnvironmentView, name: str) -> Course:
    spec, revision = environment.services[name], environment.current[name]
    wanted = [view for view in environment.of(name) if view.wanted]
    rollout = environment.rollouts.get(name) or _unrecorded(environment, name)
    new = tuple(view for view in wanted if view.instance.revision == revision)
    return Course(
        rollout=rollout,
        config=config_of(spec, rollout),
        replicas=spec.kept_replicas,
        new=new,
        old=tuple(view for view in wanted if view.instance.revision != revision),
        available=tuple(view for view in new if _is_available(rollout, view)),
    )


def _is_available(rollout: Rollout, view: InstanceView) -> bool:
    instance = view.instance
    is_ready = instance.state is State.READY and _has_passed(rollout, view)
    return is_ready or instance.exit_code == 0


def config_of(spec: ServiceSpec, rollout: Rollout) -> UpdateConfig:
    return spec.rollback if rollout.rollback else spec.update


def _unrecorded(environment: EnvironmentView, name: str) -> Rollout:
    """Of a service that an older vmorch, or a daemon that found it running, wrote down."""
    return Rollout(
        environment=environment.name,
        service=name,
        number=0,
        revision=environment.current[name],
        previous=None,
        started_at=0.0,
        phase=Phase.COMPLETED,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """What is to be written down of a rollout, if anything, and when to look again."""

    action: PutRollout | RollBack | None = None
    wake_at: float | None = None


def advance(course: Course, now: float) -> Advance:
    """The next step of a rollout that is under way."""
    rollout = course.rollout
    if rollout.phase is not Phase.RUNNING:
        return Advance()
    failed = _failures(course, now)
    if failed:
        return Advance(action=_after_failure(course, failed, now))
    watch_ends = _watch_ends(course)
    over = [view for view, at in watch_ends if at <= now]
    if over:
        return Advance(action=_passed(course, over, now))
    if _is_done(course):
        done = replace(rollout, phase=Phase.COMPLETED, ended_at=now)
        why = f"revision {rollout.revision} is rolled out"
        return Advance(
            action=PutRollout(
                rollout=done, was=rollout, kind=EventKind.ROLLOUT_COMPLETED, reason=why
            )
        )
    waits = [at for _, at in watch_ends] + _patience_ends(course, now)
    return Advance(wake_at=min(waits, default=None))


def _watch_ends(course: Course) -> list[tuple[InstanceView, float]]:
    """Instances that are ready or have done their work, with the time when their watch is over."""
    return [
        (view, (view.instance.ready_at or 0.0) + course.config.monitor_seconds)
        for view in course.new
        if not course.has_passed(view)
        and (view.instance.state is State.READY or view.instance.exit_code == 0)
    ]


def _passed(course: Course, views: Sequence[InstanceView], now: float) -> PutRollout:
    rollout = course.rollout
    ordinals = tuple(view.instance.ordinal for view in views)
    names = ", ".join(view.instance.name for view in views)
    return PutRollout(
        rollout=replace(rollout, passed=(*rollout.passed, *ordinals), passed_at=now),
        was=rollout,
        kind=EventKind.ROLLOUT_PASSED,
        reason=f"{names} ready for {course.config.monitor_seconds:g} s",
    )


def _is_done(course: Course) -> bool:
    return (
        course.rollout.canary is None
        and not course.old
        and len(course.new) == course.replicas
        and all(map(course.has_passed, course.new))
    )


# Failures


def _failures(course: Course, now: float) -> list[tuple[InstanceView, str]]:
    """Instances that have newly failed, with what is wrong. A first revision has nothing that one
    could go back to, so its instances are only tried again and again."""
    rollout = course.rollout
    if rollout.previous is None and not rollout.rollback:
        return []
    counted = {*rollout.passed, *rollout.failed, *rollout.forgiven}
    candidates = [view for view in course.new if view.instance.ordinal not in counted]
    told = [(view, _failure(view, now)) for view in candidates]
    return [(view, why) for view, why in told if why]


def _failure(view: InstanceView, now: float) -> str:
    """What is wrong with an instance that should be getting ready, or is being watched."""
    instance = view.instance
    if instance.goal is not Goal.RUN:
        return instance.reason if instance.state is State.FAILED else ""
    if instance.failures or instance.fault:
        return instance.fault or instance.reason
    if view.healthy is not False or view.guest is not GuestState.RUNNING:
        return ""
    if instance.ready_at is not None:
        sick_after = (view.unhealthy_since or now) - instance.ready_at
        return f"sick {sick_after:.0f} s after it was ready: {view.health_message}"
    if view.unhealthy_since is not None and now >= view.unhealthy_since + UNREADY_SECONDS:
        return f"not ready in its time: {view.health_message}"
    return ""


def _patience_ends(course: Course, now: float) -> list[float]:
    return [
        view.unhealthy_since + UNREADY_SECONDS
        for view in course.new
        if view.unhealthy_since is not None and view.unhealthy_since + UNREADY_SECONDS > now
    ]


def _after_failure(
    course: Course, failed: Sequence[tuple[InstanceView, str]], now: float
) -> PutRollout | RollBack:
    was = course.rollout
    ordinals = tuple(view.instance.ordinal for view, _ in failed)
    rollout = replace(was, failed=(*was.failed, *ordinals))
    what = "; ".join(f"{view.instance.name}: {why}" for view, why in failed)
    share = len(rollout.failed) / max(1, course.replicas)
    action = course.config.failure_action
    if share <= course.config.max_failure_ratio or action is FailureAction.CONTINUE:
        return PutRollout(rollout=rollout, was=was, kind=EventKind.ROLLOUT_FAILURE, reason=what)
    why = f"revision {was.revision} failed: {what}"
    if action is FailureAction.ROLLBACK and was.previous is not None:
        ended = replace(rollout, phase=Phase.FAILED, reason=why, ended_at=now)
        return RollBack(rollout=ended, was=was, to=was.previous, reason=why)
    paused = replace(rollout, phase=Phase.PAUSED, reason=why)
    return PutRollout(rollout=paused, was=was, kind=EventKind.ROLLOUT_PAUSED, reason=why)
