"""python -m bench.api_server SOCKET COUNT: the real API and store, with COUNT made-up instances."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import uvicorn

from vmorch.api.app import create_app
from vmorch.api.services import ApiServices
from vmorch.config import Settings
from vmorch.effects import SystemClock, SystemEntropy
from vmorch.host.fake import FakeHost
from vmorch.hypervisor.fake import FakeHypervisor
from vmorch.images.fake import FakeImages
from vmorch.metrics.history import History
from vmorch.model.exec import ExecRequest
from vmorch.model.instance import State
from vmorch.model.names import Installation
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.model.view import Check
from vmorch.proxy.fake import FakeProxy
from vmorch.snapshots.shelf import SnapshotShelf
from vmorch.store.sqlite import SqliteStore


class NoSessions:
    async def open(self, request: ExecRequest) -> Path:
        raise NotImplementedError


async def filled(store: SqliteStore, count: int) -> None:
    clock, entropy = SystemClock(), SystemEntropy()
    spec = ServiceSpec(name="web", image="sha256:" + "0" * 64, replicas=count, cpus=0.5)
    await store.apply(EnvironmentSpec(name="bench", services={"web": spec}), now=clock.now())
    for _ in range(count):
        made = await store.create_instance("bench", "web", 1, uuid=entropy.uuid(), now=clock.now())
        await store.put_instance(replace(made, state=State.READY, started_at=clock.now()))


async def no_checks() -> list[Check]:
    return []


def services_of(store: SqliteStore, settings: Settings) -> ApiServices:
    """With nobody behind them but the store."""
    return ApiServices(
        store=store,
        host=FakeHost(),
        images=FakeImages(SystemClock()),
        hypervisor=FakeHypervisor(SystemClock()),
        exec_sessions=NoSessions(),
        settings=settings,
        clock=SystemClock(),
        wake=lambda: None,
        checks=no_checks,
        shutdown=lambda: None,
        authority=str,
        is_presented=bool,
        accesses=FakeProxy().accesses,
        answer_times=FakeProxy().answer_times,
        snapshots=SnapshotShelf(settings.snapshots_dir, SystemClock()),
        history=History(),
        ask_warm_up=lambda environment, service: None,
        forgo_warm_up=lambda keys: None,
        last_look=lambda: None,
    )


async def main(socket: str, count: int) -> None:
    settings = replace(Settings(), state_dir=Path(tempfile.mkdtemp()))
    store = SqliteStore(
        ":memory:",
        Installation("ab" * 16),
        outer_pool=settings.outer_pool,
        inner_subnet=settings.inner_subnet,
    )
    await filled(store, count)
    app = create_app(services_of(store, settings))
    config = uvicorn.Config(app, uds=socket, log_config=None, access_log=False)
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
