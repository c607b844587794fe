"""What measuring costs: 1,000 instances on fakes, the real store, history and sampler. Each has all
measures, weights too, and the proxy tells of each instance and each service.

`metrics.core_share`: processor time of a tick as a part of one core, at the default tick, the time
of the fakes included. `metrics.calls`: calls of the hypervisor in a tick. `metrics.scrape_share`:
as the first, of one scrape of /metrics every 15 s.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.figure import Figure
from vmorch.config import Settings
from vmorch.metrics.exposition import exposition
from vmorch.metrics.history import History
from vmorch.metrics.host import HostSampler
from vmorch.model.counters import GuestCounters, MemoryWeight, TrafficCounters, TrafficReport
from vmorch.model.instance import State
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.reconciler.measuring import Measuring
from vmorch.reconciler.parts import Parts
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import World

ENVIRONMENTS = 10
REPLICAS = 100
TICKS = 30
SCRAPE_SECONDS = 15.0


def run() -> Iterator[Figure]:
    tick_seconds = Settings().metrics_tick_seconds
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        run_virtually(_measure(World(1, Path(scratch)), tick_seconds, found))
    yield _share("metrics.core_share", found["ticks"], tick_seconds)
    yield Figure(name="metrics.calls", value=found["calls"] / TICKS, unit="calls")
    yield _share("metrics.scrape_share", found["scrapes"], SCRAPE_SECONDS)


def _share(name: str, seconds: list[float], period: float) -> Figure:
    shares = [taken / period for taken in seconds]
    return Figure(name=name, value=statistics.median(shares), unit="core", samples=shares)


async def _measure(world: World, tick_seconds: float, found: dict[str, Any]) -> None:
    await _fill(world)
    instances = [(i.uuid, i.environment, i.name) for i in await world.store.instances()]
    calls = 0

    async def counters() -> Mapping[str, GuestCounters]:
        nonlocal calls
        calls += 1
        return {uuid: _guest(world.clock.now()) for uuid, _, _ in instances}

    async def traffic() -> TrafficReport:
        served = TrafficCounters(sessions=1, requests=int(world.clock.now()), response_seconds=0.1)
        servers = {(f"{env}.web.80.http", name): served for _, env, name in instances}
        return TrafficReport(
            life=1, servers=servers, backends={name: served for name, _ in servers}
        )

    world.hypervisor.counters = counters  # type: ignore[method-assign]
    world.proxy.counters = traffic  # type: ignore[method-assign]
    parts: Parts = world.parts
    history = History()
    sampler = Measuring(parts, history, HostSampler(world.clock).measure, tick_seconds=tick_seconds)

    async def tick() -> None:
        await sampler.tick()

    async def scrape() -> None:
        exposition(history, "bench")

    found["ticks"] = [await _timed(world, tick, tick_seconds) for _ in range(TICKS)]
    found["scrapes"] = [await _timed(world, scrape, 0.0) for _ in range(5)]
    found["calls"] = calls


async def _timed(world: World, work: Callable[[], Awaitable[None]], then: float) -> float:
    began = time.process_time()
    await work()
    taken = time.process_time() - began
    await world.clock.sleep(then)
    return taken


def _guest(now: float) -> GuestCounters:
    return GuestCounters(
        life=1,
        cpu_seconds=now / 10,
        throttled_seconds=now / 100,
        rss_bytes=10**8,
        weight=MemoryWeight(pss_bytes=10**8 - int(now) % 1000, shared_bytes=10**6),
        used_bytes=10**7,
        usable_bytes=10**8,
        read_bytes=0,
        written_bytes=int(now),
        received_bytes=int(now),
        sent_bytes=int(now),
    )


async def _fill(world: World) -> None:
    store, now = world.store, world.clock.now()
    web = ServiceSpec(name="web", image=world.image("web"), replicas=REPLICAS, cpus=0.5)
    for number in range(ENVIRONMENTS):
        name = f"bench{number}"
        await store.apply(EnvironmentSpec(name=name, services={"web": web}), now=now)
        for _ in range(REPLICAS):
            uuid = world.entropy.uuid()
            made = await store.create_instance(name, "web", 1, uuid=uuid, now=now)
            await store.put_instance(replace(made, state=State.READY, started_at=now))
