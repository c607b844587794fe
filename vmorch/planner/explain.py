"""Why a service or an instance is as it is, in sentences with numbers.

A purely computational module: the last look, the events about the subject and the time come in.
`vmorch.api.why` serves what comes out. What will happen is not decided here a second time: it is
asked of the planner (`upcoming`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vmorch.model.event import Event, EventKind
from vmorch.model.instance import Goal, State
from vmorch.planner.look import Look, UnderWay
from vmorch.planner.rollout_words import progress, watched
from vmorch.planner.sleeping import ASLEEP_FOR_IDLENESS, at_rest
from vmorch.planner.snapshot import EnvironmentView, InstanceView
from vmorch.planner.upcoming import Forecast, Step
from vmorch.planner.waits import waits
from vmorch.planner.words import ago, counted, span, standing, told

OLD_LOOK_SECONDS = 15.0
"""A reconciler that can looks several times in so long."""

READY, NOT_READY, ASLEEP, GONE = "ready", "not ready", "asleep", "gone"
"""A service's states, and that of whatever only events are left of."""

_TOLD_INSTANCES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """`state` is an instance's, or of a service `ready`, `not ready` or `asleep` (until somebody
    asks for it), or `gone`. `summary` is one sentence; `waits` are what it waits for, each with its
    numbers; `notes` what else is worth knowing; `steps` what will happen by itself, in this
    order."""

    environment: str
    subject: str
    state: str
    summary: str
    waits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()


def explain_instance(
    look: Look,
    environment: EnvironmentView,
    view: InstanceView,
    events: Sequence[Event],
    now: float,
) -> Explanation:
    """`events` are those about it, oldest first."""
    instance = view.instance
    under_way = look.under_way.get(instance.key)
    forecast = Forecast(look.snapshot)
    step = None if under_way else forecast.next_step(view, now)
    return Explanation(
        environment=environment.name,
        subject=instance.name,
        state=instance.state.value,
        summary=standing(view, now),
        waits=(
            tuple(_doing(under_way, now))
            if under_way
            else tuple(waits(forecast, environment, view, now))
        ),
        notes=(
            *_about(environment, view, events, now),
            *_watched(environment, view, now),
            *_old(look, now),
        ),
        steps=(step,) if step else (),
    )


def explain_service(
    look: Look, environment: EnvironmentView, service: str, events: Sequence[Event], now: float
) -> Explanation:
    """`events` are those about it and its instances, oldest first."""
    forecast = Forecast(look.snapshot)
    views = environment.of(service)
    state, summary = _standing(environment, service)
    return Explanation(
        environment=environment.name,
        subject=service,
        state=state,
        summary=summary,
        waits=tuple(_each(look, forecast, environment, views, now)),
        notes=(
            *_scaling(look, environment, service),
            *_rollout(environment, service, now),
            *_orders(environment, service, events, now),
            *_old(look, now),
        ),
        steps=tuple(forecast.of_service(environment.name, service, now)),
    )


def _standing(environment: EnvironmentView, service: str) -> tuple[str, str]:
    """State and summary of a service."""
    spec, views = environment.services.get(service), environment.of(service)
    revision = f", revision {environment.current[service]}" if spec else ""
    if views and all(_sleeps(environment, view) for view in views):
        return ASLEEP, f"{service} is {ASLEEP_FOR_IDLENESS}{revision}"
    replicas = spec.kept_replicas if spec and not environment.removing else 0
    done = [view for view in views if _is_done(view)]
    settled = len(views) == len(done) == replicas and not (spec and spec.is_asleep)
    how = "completed" if done and all(v.instance.exit_code == 0 for v in done) else "ready"
    summary = f"{service} has {len(done)} of {counted(replicas, 'instance')} {how}{revision}"
    return READY if settled else NOT_READY, summary


def explain_unseen(environment: str, subject: str, state: str, reason: str) -> Explanation:
    """What was declared or made after the last look, or whose daemon has just begun."""
    return Explanation(
        environment=environment,
        subject=subject,
        state=state,
        summary=f"{subject} is {state}{f': {reason}' if reason else ''}",
        waits=("waiting for the daemon's next look at it",),
    )


def explain_gone(
    environment: str, subject: str, events: Sequence[Event], now: float
) -> Explanation:
    """A subject of which only `events` (one at least) are left."""
    last = events[-1]
    return Explanation(
        environment=environment,
        subject=subject,
        state=GONE,
        summary=f"{subject} is gone; the last that happened was {last.kind} {ago(last, now)}: "
        f"{last.message}",
        notes=("what its guest wrote is kept: 'vmorch logs' shows it",) if last.instance else (),
    )


def _doing(under_way: UnderWay, now: float) -> Iterator[str]:
    lasted = span(now - under_way.since)
    if under_way.failure:
        again = span((under_way.again_at or now) - now)
        yield f"another try in {again}, as it failed: {under_way.failure}"
    what = told(under_way.action)
    yield f"its action, begun {lasted} ago: {what} ({under_way.action.reason})"


def _each(
    look: Look,
    forecast: Forecast,
    environment: EnvironmentView,
    views: tuple[InstanceView, ...],
    now: float,
) -> Iterator[str]:
    """A line for each instance that is not what it should be."""
    lacking = [view for view in views if not (_is_done(view) or _sleeps(environment, view))]
    for view in lacking[:_TOLD_INSTANCES]:
        under_way = look.under_way.get(view.instance.key)
        reasons = _doing(under_way, now) if under_way else waits(forecast, environment, view, now)
        why = next(iter(reasons), "")
        yield f"{standing(view, now)}{f' - {why}' if why else ''}"
    if len(lacking) > _TOLD_INSTANCES:
        states = Counter(v.instance.state.value for v in lacking[_TOLD_INSTANCES:])
        yield "and " + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def _is_done(view: InstanceView) -> bool:
    completed = view.instance.exit_code == 0
    return view.wanted and (view.instance.state is State.READY or completed)


def _sleeps(environment: EnvironmentView, view: InstanceView) -> bool:
    return view.instance.state is State.SLEEPING and at_rest(environment, view)


def _about(
    environment: EnvironmentView, view: InstanceView, events: Sequence[Event], now: float
) -> Iterator[str]:
    instance = view.instance
    if instance.goal is Goal.REMOVE:
        yield "it is to be removed"
    elif _sleeps(environment, view):
        yield f"a request wakes it, and so does 'vmorch start {instance.service}'"
    elif instance.state in _REST:
        since = next((ago(e, now) for e in reversed(events) if e.kind in _ENDS), None)
        yield f"it rests{f', since {since}' if since else ''}; 'vmorch start' brings it back"
    if instance.failures:
        most = view.spec.restart.max_attempts
        bound = "without a bound" if most is None else f"of at most {most}"
        yield f"{counted(instance.failures, 'failure')} in a row, {bound}"
    if instance.state is State.READY:
        yield f"{counted(view.sessions, 'session')} open; its check says: {view.health_message}"


_REST = frozenset({State.STOPPED, State.FAILED, State.PAUSED, State.SLEEPING})
_ENDS = frozenset(
    {
        EventKind.INSTANCE_STOPPED,
        EventKind.INSTANCE_PAUSED,
        EventKind.INSTANCE_SLEEPING,
        EventKind.INSTANCE_DIED,
        EventKind.INSTANCE_COMPLETED,
    }
)


def _watched(environment: EnvironmentView, view: InstanceView, now: float) -> Iterator[str]:
    rollout = environment.rollouts.get(view.instance.service)
    spec = environment.services.get(view.instance.service)
    if rollout is not None and spec is not None and rollout.is_open:
        yield from watched(rollout, spec, [view], now)


def _scaling(look: Look, environment: EnvironmentView, service: str) -> Iterator[str]:
    spec = environment.services.get(service)
    if spec is None or spec.autoscale is None or environment.removing:
        return
    bounds = f"it scales by itself, from {spec.autoscale.min} to {spec.autoscale.max}"
    decided = look.autoscaling.get((environment.name, service), "nothing is decided yet")
    yield f"{bounds}: {decided}"


def _rollout(environment: EnvironmentView, service: str, now: float) -> Iterator[str]:
    rollout, spec = environment.rollouts.get(service), environment.services.get(service)
    if rollout is not None and spec is not None and not environment.removing:
        yield from progress(rollout, spec, environment.of(service), now)


_ORDERS = frozenset({EventKind.SERVICE_SCALED, EventKind.ROLLED_BACK})
"""Events that say why a service has the instances it has; the last of each kind is told."""


def _orders(
    environment: EnvironmentView, service: str, events: Sequence[Event], now: float
) -> Iterator[str]:
    if environment.removing:
        yield "the environment is being removed"
    elif service not in environment.services:
        yield "it is no longer declared"
    last = {event.kind: event for event in events if event.kind in _ORDERS}
    for event in last.values():
        yield f"{event.message.rstrip('.')}, {ago(event, now)}"


def _old(look: Look, now: float) -> Iterator[str]:
    if look.trouble:
        yield f"this is {span(now - look.at)} old, as nothing could be looked at: {look.trouble}"
    elif now - look.at > OLD_LOOK_SECONDS:
        yield f"this is {span(now - look.at)} old: the daemon is busy"
