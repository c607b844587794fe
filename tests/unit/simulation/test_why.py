"""The whole daemon can say why, while it waits, after a failure, and when it cannot look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from vmorch.errors import HypervisorError
from vmorch.model.spec import (
    DependencyCondition,
    EnvironmentSpec,
    HealthCheck,
    HealthKind,
    ServiceSpec,
)
from vmorch.planner.explain import Explanation, explain_instance
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import INSTALLATION, World


def why(world: World, name: str) -> Explanation:
    assert world.reconciler is not None
    look = world.reconciler.last_look()
    assert look is not None
    (shop,) = look.snapshot.environments
    (view,) = [view for view in shop.instances if view.instance.name == name]
    return explain_instance(look, shop, view, (), world.clock.now())


def play(directory: Path, story: Callable[[World], Awaitable[None]]) -> None:
    """A shop whose web needs its db."""

    async def life() -> None:
        world = World(1, directory)
        world.boot()
        check = HealthCheck(kind=HealthKind.HTTP)
        db = ServiceSpec(name="db", image=world.image("db"), healthcheck=check)
        web = ServiceSpec(
            name="web", image=world.image("web"), depends_on={"db": DependencyCondition.HEALTHY}
        )
        await world.store.apply(
            EnvironmentSpec(name="shop", services={"web": web, "db": db}), now=world.clock.now()
        )
        await story(world)
        await world.crash()

    run_virtually(life())


def test_who_waits_for_a_sick_dependency_tells_of_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.sick.add(INSTALLATION.domain("shop", "db", 1))
        await world.live(60)
        (waits,) = why(world, "web-1").waits
        assert waits.startswith("waiting for 'db' (service_healthy): 0 of 1 ready; db-1 is run")
        assert waits.endswith("HTTP 500")

    play(tmp_path, story)


def test_an_action_that_fails_is_told_with_its_next_try(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async def refused(*_: object, **__: object) -> None:
            raise HypervisorError("no such disk")

        world.hypervisor.start = refused  # type: ignore[method-assign]
        await world.live(10)
        waits = why(world, "db-1").waits
        assert waits[0].startswith("another try in ")
        assert waits[0].endswith("as it failed: no such disk")
        assert waits[1].startswith("its action, begun ")
        assert "its guest is booted (boot 1)" in waits[1]

    play(tmp_path, story)


def test_a_daemon_that_cannot_look_answers_from_its_last_look(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.live(60)

        async def away() -> None:
            raise HypervisorError("libvirt does not answer.")

        world.hypervisor.guests = away  # type: ignore[method-assign, assignment]
        await world.live(30)
        found = why(world, "web-1")
        assert found.state == "ready"
        assert found.notes[-1].endswith("could be looked at: libvirt does not answer.")

    play(tmp_path, story)
