"""Makes the number of instances follow the load: asks `vmorch.planner.autoscale` after each tick of
the measures, and writes down the desired count that it decides on.

Nothing else: whether there is room on the host, and who comes and goes, is the planner's to say.
What decisions remember is in memory. A daemon that starts anew knows no past, and so takes nothing
away before measures fill the window again and the time of stabilization is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from vmorch.errors import NotFound, Refused, VmorchError
from vmorch.metrics.history import History
from vmorch.metrics.subject import ServiceKey
from vmorch.model.autoscale import AutoscaleMemory, AutoscaleSpec
from vmorch.model.event import EventKind
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.spec import ServiceSpec
from vmorch.planner.autoscale import Decision, desired
from vmorch.planner.look import Look
from vmorch.reconciler.parts import Parts
from vmorch.store.protocol import EnvironmentRecord

log = structlog.get_logger("vmorch.autoscaling")

_WITHHELD = {Goal.STOP: "stopped", Goal.SLEEP: "put to sleep", Goal.PAUSE: "paused"}


class Autoscaling:
    """`follow` after each tick. `wake` makes the reconciler look at once. `reasons` are those of
    the last decisions."""

    def __init__(self, parts: Parts, history: History, wake: Callable[[], None]) -> None:
        self._parts = parts
        self._history = history
        self._wake = wake
        self._memories: dict[ServiceKey, AutoscaleMemory] = {}
        self.reasons: dict[ServiceKey, str] = {}
        self._troubled: dict[str, tuple[str, int]] = {}

    async def follow(
        self, records: Sequence[EnvironmentRecord], instances: Sequence[Instance]
    ) -> None:
        """Decide on all services, which were declared like this when they were measured."""
        self._forget({key for r in records if not r.removing for key in _followed(r)})
        withheld = {(i.environment, i.service): i for i in instances if _is_withheld(i)}
        for record in records:
            if not record.removing:
                await self._guarded(record, withheld)

    def told(self, look: Look | None) -> Look | None:
        """`look` with what was decided last."""
        return replace(look, autoscaling=dict(self.reasons)) if look else None

    def _forget(self, known: set[ServiceKey]) -> None:
        """All others."""
        self._memories = {key: m for key, m in self._memories.items() if key in known}
        self.reasons = {key: r for key, r in self.reasons.items() if key in known}
        environments = {environment for environment, _ in known}
        self._troubled = {name: t for name, t in self._troubled.items() if name in environments}

    def _leave_alone(self, record: EnvironmentRecord, instance: Instance) -> None:
        """Whoever stopped a part of a service wants to look at it, or to have it small. What was
        decided before does not count any more when it goes on."""
        key = (record.name, instance.service)
        self._memories.pop(key, None)
        count = record.spec.services[instance.service].replicas
        what = f"{instance.name} was {_WITHHELD[instance.goal]}"
        self.reasons[key] = f"stays at {count}: {what}, and goes on with 'vmorch start'"

    async def _guarded(
        self, record: EnvironmentRecord, withheld: Mapping[ServiceKey, Instance]
    ) -> None:
        """An environment that cannot be scaled just now, is at the next tick."""
        try:
            await self._scale(record, withheld)
        except VmorchError as error:
            self._complain(record.name, error)
        else:
            self._troubled.pop(record.name, None)

    def _complain(self, environment: str, error: VmorchError) -> None:
        """Once for as long as it lasts; of what the store refuses only when it does so again:
        mostly somebody else has changed the environment since, and all is decided anew."""
        message, times = self._troubled.get(environment, ("", 0))
        times = times + 1 if message == error.message else 1
        self._troubled[environment] = error.message, times
        if times == (2 if isinstance(error, NotFound | Refused) else 1):
            log.warning("not scaled", environment=environment, error=error.message)

    async def _scale(
        self, record: EnvironmentRecord, withheld: Mapping[ServiceKey, Instance]
    ) -> None:
        decisions = {}
        for key, autoscale in _followed(record).items():
            if instance := withheld.get(key):
                self._leave_alone(record, instance)
            else:
                spec = record.spec.services[key[1]]
                decisions[spec.name] = await self._decision(record, spec, autoscale)
        changed = {
            service: decision
            for service, decision in decisions.items()
            if decision.count != record.spec.services[service].replicas
        }
        if changed:
            await self._write(record, changed)
        for service, decision in decisions.items():
            self._memories[record.name, service] = decision.memory
            self.reasons[record.name, service] = decision.reason
        await self._tell(record, changed)

    async def _decision(
        self, record: EnvironmentRecord, spec: ServiceSpec, autoscale: AutoscaleSpec
    ) -> Decision:
        return desired(
            autoscale,
            self._history.window(record.name, spec.name, autoscale.look_back_seconds),
            now=self._parts.clock.now(),
            current=spec.replicas,
            memory=self._memories.get((record.name, spec.name), AutoscaleMemory()),
            may_sleep=await self._may_sleep(record, spec),
            tick_seconds=self._parts.settings.metrics_tick_seconds,
        )

    async def _may_sleep(self, record: EnvironmentRecord, spec: ServiceSpec) -> bool:
        """Not as long as a rollout watches it."""
        if not spec.sleeps_when_idle or spec.replicas != 1:
            return False
        try:
            return not (await self._parts.store.latest_rollout(record.name, spec.name)).is_open
        except NotFound:
            return True

    async def _write(self, record: EnvironmentRecord, changed: Mapping[str, Decision]) -> None:
        """Raises StoreError; NotFound, Refused: somebody else has changed the environment since."""
        counts = {service: decision.count for service, decision in changed.items()}
        now = self._parts.clock.now()
        await self._parts.store.scale(record.name, counts, now=now, expected_version=record.version)
        self._wake()
        await self._parts.faults.at("autoscaling:scaled")

    async def _tell(self, record: EnvironmentRecord, changed: Mapping[str, Decision]) -> None:
        """What cannot be told has happened all the same."""
        for service, decision in changed.items():
            message = f"Scaled {decision.reason}."
            try:
                await self._parts.store.add_event(
                    EventKind.SERVICE_SCALED,
                    message,
                    now=self._parts.clock.now(),
                    environment=record.name,
                    service=service,
                )
            except VmorchError as error:
                names = {"environment": record.name, "service": service}
                log.warning("scaling not told", **names, what=message, error=error.message)


def _is_withheld(instance: Instance) -> bool:
    """By its user, and not since it has completed or failed for good."""
    ended = instance.exit_code is not None or instance.state is State.FAILED
    return instance.goal in _WITHHELD and not ended


def _followed(record: EnvironmentRecord) -> dict[ServiceKey, AutoscaleSpec]:
    """Its services that scale by themselves."""
    return {
        (record.name, name): spec.autoscale
        for name, spec in record.spec.services.items()
        if spec.autoscale is not None
    }
