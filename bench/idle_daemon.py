"""python -m bench.idle_daemon COUNT SECONDS: a daemon at rest.

Its reconciler, store and API, in real time, with COUNT fake instances that it has started itself.
When all are ready, it prints what it takes in SECONDS: the share of a core, and resident bytes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil
import structlog
import uvicorn

from bench.api_server import services_of
from vmorch.api.app import create_app
from vmorch.config import Settings
from vmorch.effects import NoFaults, SystemClock, SystemEntropy
from vmorch.guest.fake import FakeGuests
from vmorch.health.fake import FakeProber
from vmorch.host.fake import FakeHost
from vmorch.hypervisor.fake import FakeHypervisor
from vmorch.images.fake import FakeImages
from vmorch.model.guest import GuestReport
from vmorch.model.image import RunConfig
from vmorch.model.instance import State
from vmorch.model.names import Installation
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.network.fake import FakeNetwork
from vmorch.proxy.fake import FakeProxy
from vmorch.reconciler.loop import Reconciler
from vmorch.reconciler.parts import Parts
from vmorch.simulation.virtual import VirtualProcesses
from vmorch.simulation.world import FakeKeys
from vmorch.snapshots.shelf import SnapshotShelf
from vmorch.store.sqlite import SqliteStore
from vmorch.volumes.fake import FakeDisks

PER_ENVIRONMENT = 100
PER_SERVICE = 20
STARTED_SECONDS = 300.0
RUNS = GuestReport(instance_id="", service="active", cloud_init="off")


def parts_in(directory: Path) -> Parts:
    settings = Settings(state_dir=directory, warm_snapshots="off")
    clock, faults = SystemClock(), NoFaults()
    store = SqliteStore(
        directory / "store.db",
        Installation("ab" * 16),
        outer_pool=settings.outer_pool,
        inner_subnet=settings.inner_subnet,
    )
    return Parts(
        settings=settings,
        host=FakeHost(),
        store=store,
        hypervisor=FakeHypervisor(clock, boot_seconds=0.0),
        network=FakeNetwork(),
        images=FakeImages(clock),
        disks=FakeDisks(),
        snapshots=SnapshotShelf(settings.snapshots_dir, clock),
        guests=FakeGuests(),
        proxy=FakeProxy(),
        prober=FakeProber(clock, judge=lambda target: (True, "healthy", RUNS)),
        keys=FakeKeys(),
        clock=clock,
        entropy=SystemEntropy(),
        faults=faults,
        processes=VirtualProcesses(),
    )


async def declare(parts: Parts, image: str, count: int) -> None:
    for number in range(count // PER_ENVIRONMENT):
        services = {
            f"s{index}": ServiceSpec(
                name=f"s{index}", image=image, replicas=PER_SERVICE, cpus=0.5, expose=(80,)
            )
            for index in range(PER_ENVIRONMENT // PER_SERVICE)
        }
        spec = EnvironmentSpec(name=f"e{number}", services=services)
        await parts.store.apply(spec, now=parts.clock.now())


async def all_ready(parts: Parts, count: int) -> None:
    end = parts.clock.now() + STARTED_SECONDS
    while parts.clock.now() < end:
        instances = await parts.store.instances()
        rollouts = [
            rollout
            for environment in await parts.store.environments()
            for rollout in (await parts.store.latest_rollouts(environment.name)).values()
        ]
        ready = sum(i.state is State.READY and i.capped for i in instances)
        if ready == count and not any(rollout.is_open for rollout in rollouts):
            return
        await asyncio.sleep(1.0)
    raise RuntimeError("the instances did not get ready")


async def main(count: int, seconds: float) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory() as scratch:
        parts = parts_in(Path(scratch))
        run = RunConfig(command=("server",), exposed_ports=(80,))
        image = parts.images.add("bench", run).digest  # type: ignore[attr-defined]
        await declare(parts, image, count)
        reconciler = Reconciler(parts, boots_at_once=count, time_scale=1.0)
        running = asyncio.create_task(reconciler.run())
        services = replace(services_of(parts.store, parts.settings), wake=reconciler.wake)
        socket = str(Path(scratch) / "api.sock")
        config = uvicorn.Config(create_app(services), uds=socket, log_config=None)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        await all_ready(parts, count)
        process = psutil.Process()
        before = sum(process.cpu_times()[:2])
        await asyncio.sleep(seconds)
        used = sum(process.cpu_times()[:2]) - before
        print(json.dumps({"share": used / seconds, "rss_bytes": process.memory_info().rss}))
        server.should_exit = True
        await serving
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
