"""Guests that the store does not know are left alone and reported; leftovers of ours are ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vmorch.hypervisor.protocol import GuestState, ObservedGuest
from vmorch.model.event import EventKind
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.reconciler.unclaimed import give_up_unknown
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import INSTALLATION, World


async def up(world: World, name: str) -> None:
    service = ServiceSpec(name="web", image=world.image("web"), expose=(80,))
    await world.store.apply(
        EnvironmentSpec(name=name, services={"web": service}), now=world.clock.now()
    )
    await world.live(60)


async def reports(world: World) -> list[str]:
    return [e.message for e in await world.store.events() if e.kind is EventKind.UNKNOWN_GUEST]


def test_the_guests_of_a_lost_store_are_left_alone_until_given_up(tmp_path: Path) -> None:
    async def story() -> None:
        old, new = World(1, tmp_path), World(2, tmp_path)
        old.boot()
        await up(old, "shop")
        await old.crash()
        (name, guest), *_ = old.hypervisor.domains.items()
        new.hypervisor.domains[name] = guest
        new.network.ensured[7] = old.network.ensured[0]
        new.boot()
        await new.live(30)
        assert new.hypervisor.domains[name] is guest
        assert await new.network.present() == [7]
        assert len(await reports(new)) == 1
        await new.crash()
        new.boot()
        await up(new, "shop")  # the same name, in a network of its own
        assert new.hypervisor.domains[name] is guest
        (instance,) = await new.store.instances()
        assert instance.name == "web-2"
        assert await give_up_unknown(new.hypervisor, new.store, new.clock.now()) == [name]
        await new.live(30)
        assert list(new.hypervisor.domains) == [INSTALLATION.domain(*instance.key)]
        assert await new.network.present() == [0]
        await new.crash()

    run_virtually(story())


def test_what_a_removed_instance_left_goes_by_itself(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(1, tmp_path)
        world.boot()
        await up(world, "shop")
        (late,) = world.hypervisor.domains.values()
        await world.store.remove("shop", volumes=False, now=world.clock.now())
        await world.live(60)
        assert not world.hypervisor.domains
        assert not await world.store.environments()
        world.hypervisor.domains[late.config.name] = replace(late, shutdown_asked=False)
        world.hypervisor.domains[late.config.name].state = GuestState.RUNNING
        await world.live(30)
        assert not world.hypervisor.domains
        await world.crash()

    run_virtually(story())


def test_a_domain_that_only_has_our_prefix_is_never_touched(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(1, tmp_path)
        strange = ObservedGuest(
            name=f"{INSTALLATION.short}-x", uuid="u", identity=None, state=GuestState.RUNNING
        )
        world.hypervisor.foreign.append(strange)
        world.boot()
        await world.live(30)
        assert len(await reports(world)) == 1
        assert await give_up_unknown(world.hypervisor, world.store, world.clock.now()) == []
        await world.live(30)
        assert world.hypervisor.foreign == [strange]
        await world.crash()

    run_virtually(story())
