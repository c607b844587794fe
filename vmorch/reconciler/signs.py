"""What tells of guests beside libvirt's list of them: pulses, consoles, events that are due."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from vmorch.health.protocol import Health
from vmorch.hypervisor.protocol import ObservedGuest
from vmorch.model.instance import Instance
from vmorch.planner.faults import RUNS
from vmorch.reconciler.consoles import Consoles
from vmorch.reconciler.observe import Memory, Observed
from vmorch.reconciler.parts import Parts
from vmorch.reconciler.pulses import Pulses
from vmorch.reconciler.telling import domain_of

WORD_SECONDS = 1.0
"""How much later than its end a guest's last event may come."""


class Signs:
    """`take` puts what it finds into the reconciler's memory."""

    def __init__(self, parts: Parts, memory: Memory) -> None:
        self._parts = parts
        self._memory = memory
        self._pulses = Pulses(parts)
        self._consoles = Consoles()
        self._missing: dict[str, float] = {}

    def take(self, observed: Observed, health: Mapping[tuple[str, str, int], Health]) -> None:
        """Look at every instance that should have a guest."""
        now = self._parts.clock.now()
        guests = {guest.uuid: guest for guest in observed.guests}
        supposed = [i for i in observed.instances if i.state in RUNS and i.key not in observed.busy]
        self._memory.pulses = self._pulses.feel(list(_answered(supposed, guests, health, observed)))
        self._memory.mishaps = self._consoles.look(
            ((instance, self._console(instance)) for instance in supposed), now
        )
        self._await_words([i for i in supposed if i.uuid not in guests], now)

    async def close(self) -> None:
        await self._pulses.close()

    def _console(self, instance: Instance) -> Path:
        settings = self._parts.settings
        return settings.instance_dir(instance.environment, instance.name) / "console.log"

    def _await_words(self, gone: list[Instance], now: float) -> None:
        """A guest's end may be seen before the event that names its cause."""
        domains = {domain_of(self._parts, instance) for instance in gone}
        wordless = domains - self._memory.ends.keys()
        self._missing = {name: self._missing.get(name, now) for name in wordless}
        self._memory.word_due = {
            name: since + WORD_SECONDS
            for name, since in self._missing.items()
            if now < since + WORD_SECONDS
        }


def _answered(
    instances: list[Instance],
    guests: Mapping[str, ObservedGuest],
    health: Mapping[tuple[str, str, int], Health],
    observed: Observed,
) -> Iterator[tuple[Instance, ObservedGuest, float]]:
    """Those whose silence would say something, with the cores that each may use."""
    for instance in instances:
        verdict = health.get((instance.environment, instance.name, instance.boot))
        spoken = instance.ready_at is not None or (verdict and verdict.report)
        guest = guests.get(instance.uuid)
        revision = observed.revisions.get(
            (instance.environment, instance.service, instance.revision)
        )
        if guest is not None and spoken and revision is not None:
            spec = revision.spec
            yield instance, guest, spec.cpus if instance.capped else float(spec.vcpus)
