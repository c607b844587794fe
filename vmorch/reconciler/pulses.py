"""Whether guests live: packets that they send, processor time that they use, agents that answer.

One that is healthy shows it all the time without being asked. One that has been silent for a
while is asked over both ways that a hung guest cannot answer: a datagram to its address, and a
ping of its agent. What follows from its silence is the planner's to say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import dataclass

from vmorch.errors import VmorchError
from vmorch.hypervisor.protocol import ObservedGuest
from vmorch.model.guest import GuestState
from vmorch.model.instance import Instance, State
from vmorch.planner.faults import FLAT_CPUS
from vmorch.planner.snapshot import Pulse
from vmorch.reconciler.parts import Parts

STIR_SECONDS = 8.0
PING_SECONDS = 10.0
SAMPLE_SECONDS = 2.0
"""Processor time over less says little: a capped guest runs in bursts."""

GAP_SECONDS = 20.0
"""Who has not looked for so long (a host that slept, a clock that was set) heard no silence."""

PEGGED = 0.85
"""Of what it may use: one that uses less, and more than nothing, works or waits like any other."""


@dataclass(slots=True)
class _Heart:
    """`beat_*` are of the last sign of life, `sample_*` of the last look that was long enough."""

    guest: ObservedGuest
    boot: int
    beat_at: float
    beat_cpu: float
    sample_at: float
    sample_cpu: float
    pinging: asyncio.Task[None] | None = None

    def beats(self, now: float) -> None:
        self.beat_at, self.beat_cpu = now, self.guest.cpu_seconds

    def pulse(self, now: float) -> Pulse:
        silent, used = now - self.beat_at, self.guest.cpu_seconds - self.beat_cpu
        return Pulse(silent_seconds=silent, cpus=used / silent if silent > 0 else 0.0)

    def works(self, cores: float, now: float) -> bool:
        """Whether it is neither flat nor pegged; looks at most every SAMPLE_SECONDS."""
        passed = now - self.sample_at
        if passed < SAMPLE_SECONDS:
            return False
        used = (self.guest.cpu_seconds - self.sample_cpu) / passed
        self.sample_at, self.sample_cpu = now, self.guest.cpu_seconds
        return FLAT_CPUS < used < PEGGED * cores


class Pulses:
    """All of it can be lost: a daemon that begins anew is patient anew."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._hearts: dict[str, _Heart] = {}
        self._looked_at = 0.0

    def feel(
        self, instances: Collection[tuple[Instance, ObservedGuest, float]]
    ) -> dict[str, Pulse]:
        """One look at guests that have answered once, each with the cores that it may use now;
        the pulse of each domain."""
        now = self._parts.clock.now()
        former = self._hearts if now - self._looked_at < GAP_SECONDS else {}
        self._looked_at, self._hearts = now, {}
        for instance, guest, cores in instances:
            if guest.state is not GuestState.RUNNING or instance.state is State.STOPPING:
                continue
            heart = former.get(guest.name)
            if heart is None or heart.boot != instance.boot:
                cpu = guest.cpu_seconds
                heart = _Heart(guest, instance.boot, now, cpu, now, cpu)
            sent, heart.guest = heart.guest.sent_packets, guest
            if heart.works(cores, now) or sent != guest.sent_packets:
                heart.beats(now)
            elif now - heart.beat_at >= STIR_SECONDS:
                self._stir(heart, instance)
            self._hearts[guest.name] = heart
        return {name: heart.pulse(now) for name, heart in self._hearts.items()}

    async def close(self) -> None:
        tasks = [heart.pinging for heart in self._hearts.values() if heart.pinging]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stir(self, heart: _Heart, instance: Instance) -> None:
        self._parts.prober.stir(instance.outer_address)
        if heart.pinging is None or heart.pinging.done():
            heart.pinging = asyncio.create_task(self._ping(heart))

    async def _ping(self, heart: _Heart) -> None:
        with contextlib.suppress(VmorchError):
            await self._parts.hypervisor.agent(heart.guest.name, "guest-ping", {}, PING_SECONDS)
            heart.beats(self._parts.clock.now())
