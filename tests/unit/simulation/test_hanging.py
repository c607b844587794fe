"""A call to one guest that never returns: its environment waits, the others do not notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmorch.model.instance import Goal, State
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.simulation.invariants import come_to_rest
from vmorch.simulation.troubles import Kind, Trouble
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import World

PEACE_SECONDS = 120.0
GOALS = {
    "shutdown": Goal.STOP,
    "destroy": Goal.STOP,
    "suspend": Goal.PAUSE,
    "save": Goal.SLEEP,
}
"""What makes the daemon call this of a guest that is ready; the others belong to its start."""


async def up(world: World, name: str) -> None:
    web = ServiceSpec(
        name="web", image=world.image("web"), replicas=2, cpus=0.5, stop_grace_period_seconds=2.0
    )
    spec = EnvironmentSpec(name=name, services={"web": web})
    await world.store.apply(spec, now=world.clock.now())


async def states(world: World, name: str) -> list[State]:
    return [instance.state for instance in await world.store.instances(name)]


@pytest.mark.parametrize("call", ["start", "set_cpus", "shutdown", "destroy", "suspend", "save"])
def test_a_hanging_call_holds_up_no_other_environment(call: str, tmp_path: Path) -> None:
    async def story() -> None:
        world = World(1, tmp_path)
        world.boot()
        if call in GOALS:
            await up(world, "red")
            await come_to_rest(world, PEACE_SECONDS)
        for guest in world.hypervisor.domains.values():
            guest.hung = call == "destroy"  # so that it is forced
        world.troubles.add(
            Trouble(port="hypervisor", call=call, kind=Kind.HANGS, times=1, about="-red-")
        )
        if call in GOALS:
            await world.store.set_goal("red", GOALS[call])
        else:
            await up(world, "red")
        await world.live(30.0)
        assert not world.troubles.pending, "it was never called"
        await up(world, "green")
        await world.live(PEACE_SECONDS)
        assert await states(world, "green") == [State.READY] * 2
        world.calm()
        for guest in world.hypervisor.domains.values():
            guest.hung = False
        await world.store.set_goal("red", Goal.RUN)
        await come_to_rest(world, 4 * PEACE_SECONDS)
        await world.crash()

    run_virtually(story())


def test_a_look_at_the_hypervisor_that_hangs_is_over_when_its_bound_is(tmp_path: Path) -> None:
    async def story() -> None:
        world = World(1, tmp_path)
        world.boot()
        world.troubles.add(Trouble(port="hypervisor", call="guests", kind=Kind.HANGS))
        await up(world, "green")
        await come_to_rest(world, 2 * PEACE_SECONDS)
        await world.crash()

    run_virtually(story())
