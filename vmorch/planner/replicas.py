"""How many instances of which revision there are: creates what is missing, dismisses what is too
much, and replaces an old revision's instances as the rollout's order says. Pure.

An instance that is dismissed is only marked here; the rules for one instance drain and end it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vmorch.model.event import EventKind
from vmorch.model.instance import Goal, State
from vmorch.model.rollout import UpdateOrder
from vmorch.planner.actions import Action, CreateInstance, Note, RemoveEnvironment
from vmorch.planner.rollout import Course, advance, course_of
from vmorch.planner.snapshot import EnvironmentView, InstanceView

REMOVED_REASON = "the environment is being removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaping:
    """What makes the set of instances the declared one, and when to look again."""

    actions: tuple[Action, ...]
    wakes: tuple[float, ...] = ()


def shape(environment: EnvironmentView, now: float) -> Shaping:
    if environment.removing:
        return Shaping(actions=tuple(_removal(environment)))
    actions: list[Action] = []
    wakes: list[float] = []
    for name in sorted({view.instance.service for view in environment.instances}):
        if name not in environment.services:
            actions += _dismiss(environment.of(name), "its service is no longer declared")
    for name in environment.services:
        course = course_of(environment, name)
        step = advance(course, now)
        waits = [step.wake_at, _delay_ends(course)]
        wakes += [at for at in waits if at is not None and at > now]
        if step.action is not None:
            # What it changes is seen in the next look; until then nothing is built on it.
            actions.append(step.action)
        else:
            actions += _shape_service(environment, name, course, now)
    return Shaping(actions=tuple(actions), wakes=tuple(wakes))


def _removal(environment: EnvironmentView) -> Iterator[Action]:
    yield from _dismiss(environment.instances, REMOVED_REASON)
    if not environment.instances and not environment.in_proxy and not environment.busy:
        yield RemoveEnvironment(
            environment=environment.name, reason="nothing of it is left running"
        )


def _shape_service(
    environment: EnvironmentView, name: str, course: Course, now: float
) -> Iterator[Action]:
    order = environment.services[name].update_order(rollback=course.rollout.rollback)
    if course.rollout.canary is not None:
        yield from _with_canary(environment, name, course)
    elif order is UpdateOrder.STOP_FIRST:
        yield from _stop_first(environment, name, course, now)
    else:
        yield from _start_first(environment, name, course, now)


def _with_canary(environment: EnvironmentView, name: str, course: Course) -> Iterator[Action]:
    """Beside all that the service should have."""
    yield from _create(environment, name, course, course.canaries - len(course.new))
    yield from _create_old(environment, name, course, course.replicas - len(course.old))
    # One that is too much may be what carries the load while the others come back.
    if sum(map(_carries, course.old)) >= course.replicas:
        yield from _surplus(course.new, course.canaries, f"scaled to {course.replicas}")
    yield from _surplus(course.old, course.replicas, f"scaled to {course.replicas}")


def _carries(view: InstanceView) -> bool:
    return view.instance.state is State.READY or view.instance.exit_code == 0


def _start_first(
    environment: EnvironmentView, name: str, course: Course, now: float
) -> Iterator[Action]:
    """A successor has passed before its forerunner goes."""
    replaced = f"replaced by revision {course.rollout.revision}"
    unproven, old = _sorted_out(course)
    missing = course.replicas - len(course.new) - len(old)
    if course.held and course.old:
        yield from _create_old(environment, name, course, missing)
    else:
        under_way = len(course.new) - len(course.available)
        room = course.parallelism - under_way if _may_go_on(course, now) else 0
        most = course.replicas - len(course.new)
        yield from _create(environment, name, course, max(missing, min(room, most)))
    yield from _surplus(course.new, course.replicas, f"scaled to {course.replicas}")
    yield from _dismiss(unproven, replaced)
    why = replaced if course.available else f"scaled to {course.replicas}"
    yield from _surplus(old, course.replicas - len(course.available), why)


def _stop_first(
    environment: EnvironmentView, name: str, course: Course, now: float
) -> Iterator[Action]:
    """A successor comes when its forerunner is gone whole, with what it had of the host and with
    its volumes; the next ones are replaced when the last successors have passed."""
    missing = course.replicas - len(environment.of(name))
    if course.held and course.old:
        yield from _create_old(environment, name, course, missing)
    else:
        yield from _create(environment, name, course, missing)
    replaced = f"replaced by revision {course.rollout.revision}"
    unproven, proven = _sorted_out(course)
    yield from _dismiss(unproven, replaced)
    old = _most_dispensable(proven)
    surplus = len(course.new) + len(old) - course.replicas
    if surplus > 0:
        why = replaced if course.old and course.new else f"scaled to {course.replicas}"
        yield from _dismiss((old + _most_dispensable(course.new))[:surplus], why)
    elif old and not course.held and _may_go_on(course, now):
        under_way = course.replicas - len(course.available) - len(old)
        yield from _dismiss(old[: max(0, course.parallelism - under_way)], replaced)


def _sorted_out(course: Course) -> tuple[list[InstanceView], list[InstanceView]]:
    """Of the old instances, those that may go at once, and the others."""
    unproven = [view for view in course.old if not course.held and _is_unproven(view, course)]
    keys = {view.instance.key for view in unproven}
    return unproven, [view for view in course.old if view.instance.key not in keys]


def _is_unproven(view: InstanceView, course: Course) -> bool:
    """Never carried a request, and is of a revision that nobody goes back to: of one that was
    replaced on its way, or of a first one that never came up."""
    instance = view.instance
    served = instance.state is State.READY or instance.ready_at is not None
    useful = served or instance.exit_code is not None
    return not useful and instance.revision != course.rollout.previous


def _may_go_on(course: Course, now: float) -> bool:
    ends = _delay_ends(course)
    return ends is None or now >= ends


def _delay_ends(course: Course) -> float | None:
    """When the pause after the last replaced instance is over."""
    if course.rollout.passed_at is None or not course.old:
        return None
    return course.rollout.passed_at + course.config.delay_seconds


def _create(
    environment: EnvironmentView, name: str, course: Course, count: int
) -> Iterator[CreateInstance]:
    for _ in range(count):
        yield CreateInstance(
            environment=environment.name,
            service=name,
            revision=environment.current[name],
            reason=f"{len(course.new)} of {course.replicas} instances of revision "
            f"{environment.current[name]}",
        )


def _create_old(
    environment: EnvironmentView, name: str, course: Course, count: int
) -> Iterator[CreateInstance]:
    """While a rollout is held, what is missing comes of the revision that carries the load."""
    revisions = [view.instance.revision for view in course.old]
    revision = course.rollout.previous or max(revisions, default=environment.current[name])
    for _ in range(count):
        yield CreateInstance(
            environment=environment.name,
            service=name,
            revision=revision,
            reason=f"{len(course.old)} of {course.replicas} instances, and the rollout of "
            f"revision {course.rollout.revision} is held",
        )


def _surplus(views: Sequence[InstanceView], most: int, why: str) -> Iterator[Note]:
    yield from _dismiss(_most_dispensable(views)[: max(0, len(views) - max(0, most))], why)


def _most_dispensable(views: Sequence[InstanceView]) -> list[InstanceView]:
    """Those first whose end costs least: not ready before ready, young before old."""
    return sorted(views, key=lambda v: (v.instance.state is State.READY, -v.instance.ordinal))


def _dismiss(views: Sequence[InstanceView], why: str) -> Iterator[Note]:
    for view in views:
        if view.wanted and not view.busy:
            yield Note(
                instance=replace(view.instance, goal=Goal.REMOVE, reason=why),
                kind=EventKind.INSTANCE_STOPPING,
                reason=why,
            )
