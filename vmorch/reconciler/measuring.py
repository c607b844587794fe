"""Looks at what instances use, tick by tick, and hands it to the history.

A task of its own beside the reconciler's cycle: neither waits for the other, and what cannot be
asked just now is missing in that tick and nothing more. All are asked at once, and none is waited
for beyond a tick. A call that hangs is not repeated while it does, as it holds one of the few
threads that the reconciler's calls need as well.

Whoever decides by what was measured does so at the end of a tick, by what was read of the store for
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from vmorch.errors import VmorchError
from vmorch.metrics.history import History
from vmorch.metrics.subject import Sample, ServiceKey, Subject
from vmorch.model.counters import GuestCounters, TrafficReport
from vmorch.model.instance import Instance, State
from vmorch.model.spec import ServiceSpec
from vmorch.model.use import HostUse
from vmorch.reconciler.desired import desired_counts
from vmorch.reconciler.parts import Parts
from vmorch.reconciler.question import Answer, Question
from vmorch.store.protocol import EnvironmentRecord

log = structlog.get_logger("vmorch.measuring")

T = TypeVar("T")

HostSample = Callable[[], HostUse]
Follow = Callable[[Sequence[EnvironmentRecord], Sequence[Instance]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Declared:
    """What the store says at the beginning of a tick."""

    records: Sequence[EnvironmentRecord]
    instances: Sequence[Instance]
    subjects: Sequence[Subject]

    @property
    def counts(self) -> dict[ServiceKey, int]:
        return desired_counts(self.records, self.instances)


class Measuring:
    """`run` until cancelled. `tick` looks once, and has `follow` act on it."""

    def __init__(
        self,
        parts: Parts,
        history: History,
        host: HostSample,
        *,
        tick_seconds: float,
        follow: Follow | None = None,
    ) -> None:
        self._parts = parts
        self._history = history
        self._host = host
        self._follow = follow
        self._tick_seconds = tick_seconds
        self._troubled: dict[str, str] = {}
        self._guests = Question("hypervisor", self._count_guests, parts.clock)
        self._traffic = Question("proxy", self._count_traffic, parts.clock)

    async def run(self) -> None:
        try:
            await self._keep_ticking()
        finally:
            await self._guests.close()
            await self._traffic.close()

    async def _keep_ticking(self) -> None:
        clock = self._parts.clock
        while True:
            began = clock.monotonic()
            await self.tick()
            # A look that was slow shortens the rest, so that ticks keep their pace.
            taken = clock.monotonic() - began
            await clock.sleep(max(self._tick_seconds / 2, self._tick_seconds - taken))

    async def tick(self) -> None:
        try:
            declared = await self._declared()
        except VmorchError as error:
            self._missed("store", error)
            return
        self._troubled.pop("store", None)
        self._history.take(await self._look(declared))
        if self._follow is not None:
            await self._follow(declared.records, declared.instances)

    async def _look(self, declared: _Declared) -> Sample:
        failed: list[str] = []
        guests, traffic = await asyncio.gather(
            self._told(self._guests, failed), self._told(self._traffic, failed)
        )
        return Sample(
            at=self._parts.clock.now(),
            subjects=declared.subjects,
            services=declared.counts,
            guests=guests.value if guests else None,
            guests_at=guests.at if guests else 0.0,
            traffic=traffic.value if traffic else None,
            traffic_at=traffic.at if traffic else 0.0,
            host=self._host_use(failed),
            failed=failed,
        )

    async def _told(self, question: Question[T], failed: list[str]) -> Answer[T] | None:
        try:
            answer = await question.answer(self._tick_seconds)
        except VmorchError as error:
            failed.append(question.name)
            self._missed(question.name, error)
            return None
        self._troubled.pop(question.name, None)
        return answer

    def _host_use(self, failed: list[str]) -> HostUse | None:
        try:
            use = self._host()
        except VmorchError as error:
            failed.append("host")
            self._missed("host", error)
            return None
        self._troubled.pop("host", None)
        return use

    async def _count_guests(self) -> Mapping[str, GuestCounters]:
        return await self._parts.hypervisor.counters()

    async def _count_traffic(self) -> TrafficReport | None:
        """None is no failure where HAProxy does not run, as before the first service."""
        return await self._parts.proxy.counters()

    async def _declared(self) -> _Declared:
        """Raises StoreError."""
        store, instances, subjects = self._parts.store, list[Instance](), list[Subject]()
        records = await store.environments()
        for record in records:
            specs = {(r.service, r.number): r.spec for r in await store.revisions(record.name)}
            found = await store.instances(record.name)
            instances += found
            subjects += [
                _subject(instance, specs[instance.service, instance.revision])
                for instance in found
                if (instance.service, instance.revision) in specs
            ]
        return _Declared(records=records, instances=instances, subjects=subjects)

    def _missed(self, source: str, error: VmorchError) -> None:
        """Told once for as long as it lasts."""
        if self._troubled.get(source) != error.message:
            self._troubled[source] = error.message
            log.warning("not measured", source=source, error=error.message)


def _subject(instance: Instance, spec: ServiceSpec) -> Subject:
    return Subject(
        environment=instance.environment,
        service=instance.service,
        name=instance.name,
        uuid=instance.uuid,
        ready=instance.state is State.READY,
        cpus=spec.cpus,
        memory_bytes=spec.memory_bytes,
    )
