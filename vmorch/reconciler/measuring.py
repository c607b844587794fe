"""Looks at what instances use, tick by tick, and hands it to the history.

A task of its own beside the reconciler's cycle: neither waits for the other, and what cannot be
asked just now is missing in that tick and nothing more. A call that hangs is not repeated while it
does, as it holds one of the few threads that the reconciler's calls need as well.

Whoever decides by what was measured does so at the end of a tick, by what was read of the store for
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from vmorch.errors import HypervisorError, VmorchError
from vmorch.metrics.history import History
from vmorch.metrics.subject import Sample, ServiceKey, Subject
from vmorch.model.counters import GuestCounters, TrafficReport
from vmorch.model.instance import Instance, State
from vmorch.model.spec import ServiceSpec
from vmorch.model.use import HostUse
from vmorch.reconciler.desired import desired_counts
from vmorch.reconciler.parts import Parts
from vmorch.store.protocol import EnvironmentRecord

log = structlog.get_logger("vmorch.measuring")

HostSample = Callable[[float], HostUse]
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
        self._asked: asyncio.Task[Mapping[str, GuestCounters]] | None = None

    async def run(self) -> None:
        try:
            await self._keep_ticking()
        finally:
            if self._asked is not None:
                self._asked.cancel()
                await asyncio.gather(self._asked, return_exceptions=True)

    async def _keep_ticking(self) -> None:
        while True:
            began = self._parts.clock.now()
            await self.tick()
            # A look that was slow shortens the rest, so that ticks keep their pace; time that
            # was set back must not stretch it.
            taken = max(0.0, self._parts.clock.now() - began)
            await self._parts.clock.sleep(max(self._tick_seconds / 2, self._tick_seconds - taken))

    async def tick(self) -> None:
        try:
            declared = await self._declared()
        except VmorchError as error:
            self._missed("store", error)
            return
        self._troubled.pop("store", None)
        failed: list[str] = []
        guests, traffic = await self._guests(failed), await self._traffic(failed)
        now = self._parts.clock.now()
        sample = Sample(
            at=now,
            subjects=declared.subjects,
            services=declared.counts,
            guests=guests,
            traffic=traffic,
            host=self._host(now),
            failed=failed,
        )
        self._history.take(sample)
        if self._follow is not None:
            await self._follow(declared.records, declared.instances)

    async def _guests(self, failed: list[str]) -> Mapping[str, GuestCounters] | None:
        try:
            found = await self._counters()
        except VmorchError as error:
            failed.append("hypervisor")
            self._missed("hypervisor", error)
            return None
        self._troubled.pop("hypervisor", None)
        return found

    async def _counters(self) -> Mapping[str, GuestCounters]:
        """Raises HypervisorError, also when there is no answer within a tick. An answer that comes
        later than that is of no use: nobody knows of which moment it is."""
        if self._asked is not None and self._asked.done():
            self._asked.exception()
            self._asked = None
        if self._asked is None:
            weigh = self._history.next_to_weigh(self._parts.clock.now(), self._tick_seconds)
            self._asked = asyncio.ensure_future(self._parts.hypervisor.counters(weigh=weigh))
            await asyncio.wait({self._asked}, timeout=self._tick_seconds)
        if not self._asked.done():
            raise HypervisorError("The guests are not measured: the hypervisor does not answer.")
        asked, self._asked = self._asked, None
        return asked.result()

    async def _traffic(self, failed: list[str]) -> TrafficReport | None:
        """None is no failure where HAProxy does not run, as before the first service."""
        try:
            return await self._parts.proxy.counters()
        except VmorchError as error:
            failed.append("proxy")
            self._missed("proxy", error)
            return None

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
