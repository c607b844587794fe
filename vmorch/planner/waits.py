"""What an instance waits for, in numbers. Pure; `vmorch.planner.explain` puts it together."""

from __future__ import annotations

from collections.abc import Iterator

from vmorch.model.instance import Goal, State
from vmorch.model.spec import DependencyCondition, HealthCheck, HealthKind
from vmorch.planner.backoff import delay_seconds
from vmorch.planner.faults import restart_words
from vmorch.planner.plan import held_by, meets, waiting_for_service
from vmorch.planner.slots import WAITING_FOR_RESTORE, is_coming_up, waiting_for_boot
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot
from vmorch.planner.upcoming import Forecast
from vmorch.planner.verdict import ALIVE
from vmorch.planner.words import answer, counted, span, standing

_NAMED = 4
"""More instances than so many are not told one by one."""


def waits(
    forecast: Forecast, environment: EnvironmentView, view: InstanceView, now: float
) -> Iterator[str]:
    """One sentence for each thing that the instance waits for, what comes first before what comes
    later; none where it is what it should be."""
    match view.instance.state:
        case State.PENDING | State.SLEEPING if view.instance.goal is Goal.RUN:
            yield from _backing_off(view, now)
            yield from _kept_from_starting(forecast, environment, view, now)
        case State.RUNNING if view.instance.goal is Goal.RUN:
            yield from _health(view, forecast.snapshot.time_scale, now)
        case State.DRAINING:
            yield _draining(view, now)
        case State.STOPPING:
            yield _stopping(view, now)
        case _:
            yield from _held(environment, view, now)


def _backing_off(view: InstanceView, now: float) -> Iterator[str]:
    instance = view.instance
    if instance.not_before is None or now >= instance.not_before:
        return
    left = instance.not_before - now
    whole = delay_seconds(instance.failures, first=view.spec.restart.delay_seconds)
    end = instance.reason.removesuffix(f"; {restart_words(instance.failures, whole)}")
    waited = span(max(0.0, whole - left))
    yield f"restart {instance.failures} in {span(left)} ({waited} already waited), after: {end}"


def _kept_from_starting(
    forecast: Forecast, environment: EnvironmentView, view: InstanceView, now: float
) -> Iterator[str]:
    """The planner's own word, with the numbers behind it."""
    due = max(now, view.instance.not_before or now)
    reason = forecast.obstacle(view, due)
    if not reason:
        return
    unmet = {
        waiting_for_service(name, condition): _progress(environment, name, condition, now)
        for name, condition in view.spec.depends_on.items()
        if not _met(environment, name, condition)
    }
    if reason in {waiting_for_boot(forecast.snapshot.boots_at_once), WAITING_FOR_RESTORE}:
        yield f"{reason}: {_listed(_coming_up(forecast.snapshot), now)}"
    elif reason not in unmet:
        yield reason
    yield from (f"{words}: {progress}" for words, progress in unmet.items())


def _met(environment: EnvironmentView, name: str, condition: DependencyCondition) -> bool:
    return meets(condition, environment, [view for view in environment.of(name) if view.wanted])


def _progress(
    environment: EnvironmentView, name: str, condition: DependencyCondition, now: float
) -> str:
    """How many of a service's instances are what a dependant waits for, and where the others
    are."""
    views = [view for view in environment.of(name) if view.wanted]
    if not views:
        return "it has no instance yet"
    lacking = [view for view in views if not meets(condition, environment, [view])]
    there = f"{len(views) - len(lacking)} of {len(views)} {_GOAL_OF[condition]}"
    return f"{there}; {_listed(lacking, now)}" if lacking else there


_GOAL_OF = {
    DependencyCondition.STARTED: "started",
    DependencyCondition.HEALTHY: "ready",
    DependencyCondition.COMPLETED: "completed",
}


def _coming_up(snapshot: Snapshot) -> list[InstanceView]:
    return [view for env in snapshot.environments for view in env.instances if is_coming_up(view)]


def _listed(views: list[InstanceView], now: float) -> str:
    named = "; ".join(standing(view, now) for view in views[:_NAMED])
    more = len(views) - _NAMED
    return f"{named}; and {more} more" if more > 0 else named


def _health(view: InstanceView, time_scale: float, now: float) -> Iterator[str]:
    instance, check = view.instance, view.spec.healthcheck
    lasted = view.unhealthy_since if instance.ready_at is not None else instance.started_at
    since = f" for {span(now - lasted)}" if lasted is not None else ""
    said = answer(view) or "none"
    yield f"{_asked(check)} has not succeeded{since}; its last answer: {said}"
    if view.failed_checks:
        limit = max(1, check.retries)
        verdict = ", so it is unhealthy" if view.failed_checks >= limit else ""
        failed = counted(view.failed_checks, "check")
        yield f"{failed} in a row failed, {limit} make it unhealthy{verdict}"
    elif check.start_period_seconds and view.healthy is None:
        period = check.start_period_seconds * time_scale
        yield f"failures count {span(period)} (start_period) after its guest has booted"


def _asked(check: HealthCheck) -> str:
    match check.kind:
        case HealthKind.UNIT:
            what = "is the service's unit active?"
        case HealthKind.HTTP:
            what = f"HTTP {(check.argument or ('/',))[0]}"
        case _:
            what = check.kind.value
    return f"its health check ({what}, every {check.interval_seconds:g} s)"


def _draining(view: InstanceView, now: float) -> str:
    sessions = f"waiting for {counted(view.sessions, 'session')}"
    grace = view.spec.stop_grace_period_seconds
    if view.instance.deadline is None:
        return f"{sessions} to end"
    left = span(view.instance.deadline - now)
    return f"{sessions} to end, for at most {left} more of {grace:g} s (stop_grace_period)"


def _stopping(view: InstanceView, now: float) -> str:
    deadline = view.instance.deadline
    left = "" if deadline is None else f" within {span(deadline - now)}"
    if view.instance.saving:
        return f"waiting for the proxy to let go{left}, and its memory to be saved"
    return f"waiting for its guest to power off{left}; then it is ended by force"


def _held(environment: EnvironmentView, view: InstanceView, now: float) -> Iterator[str]:
    """Stopped after those that need it."""
    if not (other := held_by(environment, view)) or view.guest not in ALIVE:
        return
    leaving = [v for v in environment.of(other) if v.guest is not None]
    yield f"waiting for '{other}', which needs it, to be down first: {_listed(leaving, now)}"
