"""Waits until an environment is what was asked for, and says why it is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vmorch.cli.output import say
from vmorch.cli.stopped import overtaken, paused
from vmorch.errors import DaemonUnreachable, NotFound, TimedOut, VmorchError

if TYPE_CHECKING:
    from vmorch.cli.progress import Reporter
    from vmorch.client import Client
    from vmorch.model.view.environment import EnvironmentView, ServiceView
    from vmorch.model.view.instance import InstanceView
    from vmorch.model.view.rollout import RolloutView
    from vmorch.model.view.stream import EventView

_POLL_SECONDS = 0.4
# A guest that the reconciler starts again passes through "failed" for a moment.
_FAILED_LOOKS = 3
_TOLD_EVENTS = {
    "action-failed",
    "instance-died",
    "cloud-init-failed",
    "unknown-guest",
    "memory-lost",
}
_TAIL_LINES = 20
# How long a daemon may be away in the middle of a wait.
_AWAY_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`timeout_seconds` None: what a boot takes at this acceleration, with room to spare."""

    timeout_seconds: float | None = None
    poll_seconds: float = _POLL_SECONDS


class NotReady(VmorchError):
    """An instance has failed for good, or its job ended badly."""

    def __init__(self, instances: list[InstanceView]) -> None:
        first = instances[0]
        super().__init__(
            f"{first.instance} failed: {first.reason}",
            hint=f"See 'vmorch logs --source console {first.instance}' and 'vmorch events'.",
        )
        self.instances = instances


@dataclass(slots=True)
class _Watch:
    """What one wait has seen so far."""

    client: Client
    environment: str
    report: Reporter
    since: float
    names: frozenset[str] = frozenset()
    after: int = 0
    failed_looks: dict[str, int] = field(default_factory=dict)
    awake: dict[str, str] = field(default_factory=dict)
    revisions: Mapping[str, int] = field(default_factory=dict)

    def look(self) -> list[InstanceView]:
        rows = self.client.instances(self.environment)
        for event in self._new_events():
            if event.kind in _TOLD_EVENTS:
                self.report.event(event)
            if event.kind == "sleep-failed":
                self.awake[event.instance] = event.message
        self.report.instances(rows)
        return rows

    def _new_events(self) -> list[EventView]:
        since = self.since if not self.after else None
        events = list(
            self.client.events(after=self.after, environment=self.environment, since=since)
        )
        if events:
            self.after = events[-1].id
        return events

    def failed(self, rows: list[InstanceView]) -> list[InstanceView]:
        """Instances that have been failed for several looks on end; not those of a revision that
        is being replaced, which may be just why."""
        looks = self.failed_looks
        self.failed_looks = {
            row.instance: looks.get(row.instance, 0) + 1
            for row in rows
            if (row.state == "failed" or row.exit_code)
            and (not self.names or row.instance in self.names)
            and row.revision == self.revisions.get(row.service, row.revision)
        }
        return [r for r in rows if self.failed_looks.get(r.instance, 0) >= _FAILED_LOOKS]


def wait_ready(
    client: Client,
    environment: EnvironmentView,
    report: Reporter,
    *,
    services: frozenset[str] = frozenset(),
    watched_seconds: float = 0.0,
    limits: Limits,
) -> list[InstanceView]:
    """Wait until each service (of `services`, or all) has as many ready instances of its newest
    revision as it should, and no others, and the rollout to that one is completed; where it has a
    canary, until that has passed. A job that has ended well counts as ready. What scales by itself
    may change its number meanwhile (`_as_many`). `watched_seconds` is
    what rollouts add to the time that is allowed unless `limits` say one.

    Raises:
        NotReady: an instance failed for good. TimedOut: it took too long.
        RolloutStopped: a new revision was rolled back, or its rollout is paused.
        NotFound: somebody removed the environment meanwhile.
    """
    wanted = {
        name: view
        for name, view in environment.services.items()
        if not services or name in services
    }
    revisions = {name: view.revision for name, view in wanted.items()}
    watch = _Watch(client, environment.name, report, since=time.time(), revisions=revisions)

    def settled(rows: list[InstanceView]) -> bool:
        # The records, not events: what happened before the first look must not be missed.
        rollouts = {one.service: one for one in client.latest_rollouts(environment.name)}
        latest = _declared_now(client, environment)
        for name, view in wanted.items():
            if name in rollouts:
                _refuse_stopped(client, rollouts[name], view.revision)
        return all(
            _is_settled(
                view,
                latest.get(name, view).replicas,
                [row for row in rows if row.service == name],
                rollouts.get(name),
            )
            for name, view in wanted.items()
        )

    count = sum(view.replicas for view in wanted.values())
    timeout = limits.timeout_seconds or _ready_timeout(client, count) + watched_seconds
    return _until(watch, settled, timeout, limits.poll_seconds, "was not ready")


def _refuse_stopped(client: Client, latest: RolloutView, revision: int) -> None:
    """Raises RolloutStopped."""
    if latest.revision != revision:
        raise overtaken(client, latest, revision)
    if latest.phase == "paused":
        raise paused(latest)


def _declared_now(client: Client, environment: EnvironmentView) -> Mapping[str, ServiceView]:
    """Asked for anew where a service may have another number of instances by now."""
    if all(view.max_replicas is None for view in environment.services.values()):
        return environment.services
    return client.environment(environment.name).services


def _is_settled(
    view: ServiceView, replicas: int, rows: list[InstanceView], rollout: RolloutView | None
) -> bool:
    """`rows` are the service's, `view` is that of the beginning, `replicas` the number by now."""
    if rollout is not None and rollout.canary_passed:
        return True
    # Without a revision to go back to, what fails is tried again: to be ready is enough.
    is_watched = rollout is not None and rollout.previous is not None and rollout.is_open
    if is_watched or any(row.revision != view.revision for row in rows):
        return False
    return _as_many(view, replicas, rows)


def _as_many(view: ServiceView, replicas: int, rows: list[InstanceView]) -> bool:
    """As should be. What scales by itself has to have been there with the lesser of the numbers
    then and now: who waits for it does not wait for each that the load adds, nor for one that goes.
    At none, its last instance sleeps."""
    done = sum(row.ready or _complete(row) for row in rows)
    if view.max_replicas is None:
        return len(rows) == done == view.replicas
    if replicas == 0:
        return bool(rows) and all(row.state == "sleeping" for row in rows)
    return done >= max(1, min(view.replicas, replicas))


def wait_for(
    client: Client,
    environment: str,
    report: Reporter,
    *,
    names: frozenset[str],
    states: frozenset[str],
    limits: Limits,
) -> list[InstanceView]:
    """Wait until each instance in `names` is in one of `states`. One that has gone meanwhile
    needs no waiting for, nor one whose work was complete.

    Raises:
        NotReady: one failed for good. TimedOut: it took too long.
        VmorchError: one could not be put to sleep.
    """
    timeout = limits.timeout_seconds or _ready_timeout(client, len(names))
    watch = _Watch(client, environment, report, since=time.time(), names=names)

    def settled(rows: list[InstanceView]) -> bool:
        if "sleeping" in states and (awake := watch.awake.keys() & names):
            raise VmorchError(f"{min(awake)} goes on: {watch.awake[min(awake)]}")
        return all(row.state in states or _complete(row) for row in rows if row.instance in names)

    failing = "failed" not in states
    what = f"was not {' or '.join(sorted(states))}"
    return _until(watch, settled, timeout, limits.poll_seconds, what, failing=failing)


def wait_gone(client: Client, environment: str, report: Reporter, *, limits: Limits) -> None:
    """Wait until nothing of the environment is left. Raises TimedOut."""
    timeout = limits.timeout_seconds or _ready_timeout(client, 1)
    watch = _Watch(client, environment, report, since=time.time())

    def settled(_: list[InstanceView]) -> bool:
        client.environment(environment)  # NotFound when it is gone
        return False

    try:
        _until(watch, settled, timeout, limits.poll_seconds, "was not gone", failing=False)
    except NotFound:
        report.instances([])


class Absence:
    """A daemon that does not answer may just be restarting; guests do not mind, nor should who
    waits for them."""

    def __init__(self) -> None:
        self._since: float | None = None

    def ends(self) -> bool:
        """It answers; whether it was away before."""
        was_away, self._since = self._since is not None, None
        return was_away

    def bearable(self) -> bool:
        """It does not answer, which is said once; False: it has not for too long."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            say("The daemon went away; waiting for it to come back.")
        return now - self._since < _AWAY_SECONDS


def _until(
    watch: _Watch,
    settled: Callable[[list[InstanceView]], bool],
    timeout: float,
    poll_seconds: float,
    what: str,
    *,
    failing: bool = True,
) -> list[InstanceView]:
    deadline = time.monotonic() + timeout
    absence = Absence()
    rows: list[InstanceView] = []
    while True:
        try:
            rows = watch.look()
            if settled(rows):
                return rows
            absence.ends()
        except DaemonUnreachable:
            if not absence.bearable():
                raise
            time.sleep(poll_seconds)
            continue
        if failing and (failed := watch.failed(rows)):
            raise NotReady(failed)
        if time.monotonic() >= deadline:
            raise _timed_out(watch.environment, rows, timeout, what)
        time.sleep(poll_seconds)


def _complete(row: InstanceView) -> bool:
    return row.state == "stopped" and row.exit_code == 0


def _timed_out(environment: str, rows: list[InstanceView], timeout: float, what: str) -> TimedOut:
    waiting = [row for row in rows if not row.ready]
    state = "; ".join(
        f"{r.instance} is {r.state}{f' ({r.reason})' if r.reason else ''}" for r in waiting[:3]
    )
    return TimedOut(
        f"'{environment}' {what} within {timeout:.0f} s{': ' + state if state else ''}.",
        hint="It goes on in the background: see 'vmorch ps' and 'vmorch events', "
        "or allow more with --timeout SECONDS.",
    )


def _ready_timeout(client: Client, count: int) -> float:
    """A boot and its first health checks under KVM, for each of a few that boot at once."""
    return (45.0 + 15.0 * count) * client.acceleration().time_scale


def explain(client: Client, environment: str, instances: list[InstanceView]) -> list[str]:
    """What a person wants to read of instances that did not become ready: the last lines of
    their consoles and services, and cloud-init's verdict where it gave one."""
    lines = []
    for instance in instances[:3]:
        for source in ("service", "console"):
            tail = list(
                client.logs(environment, [instance.instance], source=source, tail=_TAIL_LINES)
            )
            if tail:
                lines.append(f"--- the last lines of {instance.instance}'s {source}:")
                lines += [f"  | {line.line}" for line in tail]
    lines += [
        f"--- {event.instance}: {event.message}"
        for event in client.events(environment=environment)
        if event.kind == "cloud-init-failed"
        and event.instance in {instance.instance for instance in instances}
    ][-3:]
    return lines
