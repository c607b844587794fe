"""Volumes through the life of an environment, with the daemon dead at each point on the way."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from vmorch.model.instance import Goal
from vmorch.model.spec import EnvironmentSpec, ServiceSpec, VolumeMount, VolumeSpec
from vmorch.simulation.invariants import check_always, check_at_rest
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import World

MOUNT = VolumeMount(source="data", target="/srv", per_instance=True)
CALM_SECONDS = 120.0


class Story:
    """Up with two instances, another revision, down, up again, down -v. A crash at `point`."""

    def __init__(self, world: World) -> None:
        self.world = world
        db = ServiceSpec(
            name="db",
            image=world.image("db"),
            replicas=2,
            volumes=(MOUNT,),
            stop_grace_period_seconds=2.0,
        )
        volumes = {"data": VolumeSpec(size_bytes=2**26)}
        self.spec = EnvironmentSpec(name="shop", services={"db": db}, volumes=volumes)

    async def live(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            await self.world.live(1.0)
            await check_always(self.world)
            self.check_nobody_shares()

    def check_nobody_shares(self) -> None:
        used = [v.path for g in self.world.hypervisor.domains.values() for v in g.config.volumes]
        assert len(used) == len(set(used)), used

    def names(self) -> set[str]:
        return {path.name for path in self.world.disks.disks}

    async def tell(self) -> None:
        store, now = self.world.store, self.world.clock.now
        await store.apply(self.spec, now=now())
        await self.live(CALM_SECONDS)
        made = dict(self.world.disks.disks)
        assert self.names() == {"data@1.qcow2", "data@2.qcow2"}
        changed = replace(self.spec.services["db"], environment={"A": "1"})
        await store.apply(replace(self.spec, services={"db": changed}), now=now())
        await self.live(2 * CALM_SECONDS)
        await check_at_rest(self.world)
        await store.remove("shop", volumes=False, now=now())
        await self.live(CALM_SECONDS)
        assert not await store.environments()
        await store.apply(self.spec, now=now())
        await self.live(CALM_SECONDS)
        await check_at_rest(self.world)
        assert self.world.disks.disks == made
        await store.remove("shop", volumes=True, now=now())
        await self.live(CALM_SECONDS)
        assert not await store.environments()
        assert not await store.volumes()
        assert not self.world.disks.disks


async def told(directory: str, point: str | None) -> dict[str, int]:
    world = World(7, Path(directory))
    story = Story(world)
    world.faults.armed = point
    world.boot()
    await story.tell()
    await world.crash()
    return world.faults.seen


@pytest.mark.parametrize(
    "point",
    [
        None,
        "start:claimed",
        "start:volume",
        "start:volume-noted",
        "start:seed",
        "remove:recorded",
        "remove-environment:files",
        "remove-volume:file",
        "remove-volume:forgotten",
    ],
)
def test_volumes_are_kept_and_never_shared(point: str | None) -> None:
    with tempfile.TemporaryDirectory() as directory:
        seen = run_virtually(told(directory, point))
    assert point is None or point in seen


def test_what_an_environment_left_goes_without_it() -> None:
    async def work(directory: str) -> None:
        world = World(3, Path(directory))
        story = Story(world)
        world.boot()
        await world.store.apply(story.spec, now=world.clock.now())
        await story.live(CALM_SECONDS)
        await world.store.remove("shop", volumes=False, now=world.clock.now())
        await story.live(CALM_SECONDS)
        assert world.disks.disks
        await world.store.remove_volumes("shop")
        await story.live(CALM_SECONDS)
        assert not world.disks.disks
        assert not await world.store.volumes()
        await world.crash()

    with tempfile.TemporaryDirectory() as directory:
        run_virtually(work(directory))


def test_a_lost_volume_is_missed_until_it_is_back_or_given_up() -> None:
    async def work(directory: str) -> None:
        world = World(3, Path(directory))
        story = Story(world)
        store = world.store
        world.boot()
        await store.apply(story.spec, now=world.clock.now())
        await story.live(CALM_SECONDS)
        path = next(p for p in world.disks.disks if p.name == "data@1.qcow2")
        copy = world.disks.disks.pop(path)
        await store.set_goal("shop", Goal.STOP)
        await story.live(CALM_SECONDS)
        await store.set_goal("shop", Goal.RUN)
        await story.live(CALM_SECONDS)
        told = f"The file of a volume is gone: {path}."
        assert path not in world.disks.disks
        assert sorted(i.reason == told for i in await store.instances()) == [False, True]
        assert any(told in e.message and "down -v" in e.message for e in await store.events())
        world.disks.disks[path] = copy
        await story.live(CALM_SECONDS)
        await check_at_rest(world)
        assert world.disks.disks[path] == copy

        del world.disks.disks[path]
        await store.remove("shop", volumes=True, now=world.clock.now())
        await story.live(CALM_SECONDS)
        await store.apply(story.spec, now=world.clock.now())
        await story.live(CALM_SECONDS)
        await check_at_rest(world)
        assert path in world.disks.disks
        await world.crash()

    with tempfile.TemporaryDirectory() as directory:
        run_virtually(work(directory))
