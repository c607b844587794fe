"""A host that cannot hold all that is declared: what fits runs, the rest waits and says why, and
starts as soon as something goes away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vmorch.model.event import EventKind
from vmorch.model.guest import Acceleration
from vmorch.model.host import BOUNDLESS
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.planner.capacity import need_of
from vmorch.simulation.invariants import check_at_rest
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import World

TINY = ServiceSpec(name="web", image="", cpus=0.5)
MEMORY = need_of(TINY, Acceleration.TCG).memory_bytes


def room_for(count: int) -> int:
    """So many instances, and nearly one more."""
    return count * MEMORY + MEMORY - 1


def small(world: World, memory_bytes: int) -> None:
    world.host.seen = replace(BOUNDLESS, memory_bytes=memory_bytes, acceleration=Acceleration.TCG)


async def up(world: World, name: str, replicas: int) -> None:
    web = replace(TINY, image=world.image("web"), replicas=replicas, expose=(80,))
    await world.store.apply(
        EnvironmentSpec(name=name, services={"web": web}), now=world.clock.now()
    )


async def of(world: World, state: State) -> list[Instance]:
    return [i for i in await world.store.instances() if i.state is state]


def test_what_does_not_fit_waits_and_starts_when_something_goes(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(1, tmp_path)
        small(world, room_for(3))
        world.boot()
        await up(world, "first", 2)
        await world.live(300)
        await up(world, "second", 3)
        await world.live(300)
        assert len(await of(world, State.READY)) == len(world.hypervisor.domains) == 3
        waiting = await of(world, State.PENDING)
        assert len(waiting) == 2
        for instance in waiting:
            assert instance.reason.startswith("waiting for memory: needs 641 MiB (512 MiB + ")
            assert "reserved by 3 instances" in instance.reason
        told = len(await world.store.events())
        await world.live(600)
        assert len(await world.store.events()) == told  # no event without news
        await world.store.remove("first", volumes=False, now=world.clock.now())
        await world.live(600)
        await check_at_rest(world)
        assert len(await of(world, State.READY)) == 3
        await world.crash()

    run_virtually(story())


def test_a_guest_that_dies_comes_back_into_its_own_room(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(1, tmp_path)
        small(world, room_for(1))
        world.boot()
        await up(world, "zulu", 1)
        await world.live(300)
        await up(world, "alpha", 1)  # planned first, by its name
        await world.live(60)
        for _ in range(3):
            (domain,) = world.hypervisor.domains
            world.hypervisor.kill(domain)
            await world.live(300)
            (ready,) = await of(world, State.READY)
            assert ready.environment == "zulu"
        await world.crash()

    run_virtually(story())


def test_sleep_gives_room_away_and_waking_waits_for_it(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(1, tmp_path)
        small(world, room_for(1))
        world.boot()
        await up(world, "first", 1)
        await world.live(300)
        await up(world, "second", 1)
        await world.store.set_goal("first", Goal.SLEEP)
        await world.live(300)
        assert [i.environment for i in await of(world, State.READY)] == ["second"]
        await world.store.set_goal("first", Goal.RUN)
        await world.live(60)
        (sleeper,) = await of(world, State.SLEEPING)
        assert sleeper.reason.startswith("waiting for memory")
        await world.store.set_goal("second", Goal.STOP)
        await world.live(300)
        assert [i.environment for i in await of(world, State.READY)] == ["first"]
        await world.crash()

    run_virtually(story())


def test_a_warm_snapshot_waits_for_room_for_its_guest(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(1, tmp_path, warm=True)
        small(world, room_for(2))
        world.boot()
        await up(world, "first", 2)
        await world.live(600)
        kinds = {event.kind for event in await world.store.events()}
        assert EventKind.SNAPSHOT_BEGUN not in kinds
        await world.store.scale("first", {"web": 1}, now=world.clock.now())
        await world.live(900)
        kinds = {event.kind for event in await world.store.events()}
        assert EventKind.SNAPSHOT_MADE in kinds
        await world.crash()

    run_virtually(story())


def test_a_host_that_shrinks_ends_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(1, tmp_path)
        small(world, room_for(3))
        world.boot()
        await up(world, "first", 3)
        await world.live(300)
        small(world, room_for(1))
        await world.live(300)
        assert len(await of(world, State.READY)) == 3
        world.hypervisor.kill(min(world.hypervisor.domains))
        await world.live(300)
        (waiting,) = await of(world, State.PENDING)
        assert "0 MiB of" in waiting.reason
        await world.crash()

    run_virtually(story())
