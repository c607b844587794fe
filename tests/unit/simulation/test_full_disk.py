"""Nothing can be written for a while: the daemon lives on, says why, and catches up."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from vmorch.errors import StoreError
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.simulation.invariants import check_at_rest
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import World


async def up(world: World) -> None:
    service = ServiceSpec(name="web", image=world.image("web"), replicas=2, expose=(80,), cpus=0.5)
    await world.store.apply(
        EnvironmentSpec(name="shop", services={"web": service}), now=world.clock.now()
    )


def test_a_disk_that_fills_up_under_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        world = World(1, tmp_path)
        world.boot()

        async def no_room(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "disk.qcow2")

        with monkeypatch.context() as patch:
            patch.setattr(world.images, "create_disk", no_room)
            await up(world)
            await world.live(60)
            reasons = [i.reason for i in await world.store.instances()]
            assert any("No space left on device" in reason for reason in reasons)
            told = [e.message for e in await world.store.events()]
            assert any("vmorch image prune" in message for message in told)
        await world.live(300)
        await check_at_rest(world)
        await world.crash()

    run_virtually(story())


def test_a_store_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        world = World(1, tmp_path)
        world.boot()
        await up(world)
        tries = 0

        async def no_room(*_: object, **__: object) -> None:
            nonlocal tries
            tries += 1
            raise StoreError("The store could not be written.", retryable=True)

        with monkeypatch.context() as patch:
            for call in ("add_event", "put_instance", "create_instance"):
                patch.setattr(world.store, call, no_room)
            await world.live(60)
        assert 0 < tries < 200  # no busy loop
        await world.live(300)
        await check_at_rest(world)
        await world.crash()

    run_virtually(story())
