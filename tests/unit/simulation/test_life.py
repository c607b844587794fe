"""The whole daemon in virtual time: stop, pause, jobs, hangs, and the order on the way down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from vmorch.errors import Refused
from vmorch.model.event import EventKind
from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.spec import (
    DependencyCondition,
    EnvironmentSpec,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
)
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import INSTALLATION, JOB, World

LONG = 300.0


def play(directory: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def life() -> None:
        world = World(1, directory)
        world.boot()
        await story(world)
        await world.crash()

    run_virtually(life())


async def apply(world: World, **services: ServiceSpec) -> None:
    spec = EnvironmentSpec(name="shop", services=services)
    await world.store.apply(spec, now=world.clock.now())
    await world.live(LONG)


def service(world: World, name: str, **changes: object) -> ServiceSpec:
    values = {"name": name, "image": world.image(name), "cpus": 0.5, "expose": (80,), **changes}
    return ServiceSpec(**values)  # type: ignore[arg-type]


async def only(world: World) -> Instance:
    (instance,) = await world.store.instances("shop")
    return instance


async def order(world: World, goal: Goal) -> Instance:
    await world.store.set_goal("shop", goal)
    await world.live(LONG)
    return await only(world)


def test_stop_keeps_everything_but_the_guest_and_start_is_the_next_boot(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await apply(world, web=service(world, "web"))
        before = await only(world)
        assert before.state is State.READY
        stopped = await order(world, Goal.STOP)
        assert (stopped.state, stopped.reason) == (State.STOPPED, "stopped by the user")
        assert world.hypervisor.domains == {}
        again = await order(world, Goal.RUN)
        assert (again.state, again.boot, again.failures) == (State.READY, 2, 0)
        assert (again.uuid, again.mac, again.name) == (before.uuid, before.mac, before.name)

    play(tmp_path, story)


def test_pause_keeps_the_guest_too(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await apply(world, web=service(world, "web"))
        paused = await order(world, Goal.PAUSE)
        (guest,) = world.hypervisor.domains.values()
        assert (paused.state, guest.state) == (State.PAUSED, GuestState.PAUSED)
        assert world.proxy.connect("shop.web.80.tcp") is None
        await world.crash()
        world.boot()  # a daemon that begins anew leaves it so
        await world.live(LONG)
        assert guest.state is GuestState.PAUSED
        again = await order(world, Goal.RUN)
        assert (again.state, again.boot) == (State.READY, 1)
        assert list(world.hypervisor.domains.values()) == [guest]
        assert (await order(world, Goal.PAUSE)).state is State.PAUSED
        stopped = await order(world, Goal.STOP)
        assert (stopped.state, stopped.failures) == (State.STOPPED, 0)

    play(tmp_path, story)


def test_a_job_is_done_once_and_others_wait_for_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        policy = RestartPolicy(condition=RestartCondition.NONE)
        await apply(
            world,
            job=service(world, JOB, restart=policy),
            web=service(world, "web", depends_on={JOB: DependencyCondition.COMPLETED}),
        )
        done, web = await world.store.instances("shop")
        assert (done.state, done.reason, done.boot) == (
            State.STOPPED,
            "completed (exit code 0)",
            1,
        )
        assert web.state is State.READY
        assert list(world.hypervisor.domains) == [INSTALLATION.domain(*web.key)]

    play(tmp_path, story)


@pytest.mark.parametrize("goal", [Goal.STOP, Goal.REMOVE])
def test_the_order_is_reversed_on_the_way_down(goal: Goal, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await apply(
            world,
            db=service(world, "db"),
            web=service(world, "web", depends_on={"db": DependencyCondition.HEALTHY}),
        )
        seen = len(await world.store.events())
        if goal is Goal.STOP:
            await world.store.set_goal("shop", goal)
        else:
            await world.store.remove("shop", volumes=False, now=world.clock.now())
        await world.live(LONG)
        ended = EventKind.INSTANCE_STOPPED if goal is Goal.STOP else EventKind.INSTANCE_REMOVED
        told = [
            (event.kind, event.service)
            for event in await world.store.events(after=seen)
            if event.kind in {EventKind.INSTANCE_DRAINING, ended}
        ]
        draining = EventKind.INSTANCE_DRAINING
        assert told.index((draining, "db")) > told.index((draining, "web"))
        assert [kind for kind, name in told if name == "db"] == [draining, ended]
        assert world.hypervisor.domains == {}

    play(tmp_path, story)


def test_a_hung_guest_is_ended_and_started_again_by_itself(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await apply(world, web=service(world, "web"))
        (guest,) = world.hypervisor.domains.values()
        guest.hung = True
        await world.live(60.0)
        again = await only(world)
        assert again.boot == 2
        assert again.failures == 1
        assert world.prober.stirred != []
        told = [e for e in await world.store.events() if e.message.startswith("hung: ")]
        assert [e.kind for e in told] == [
            EventKind.GUEST_GIVEN_UP,
            EventKind.GUEST_DESTROYED,
            EventKind.INSTANCE_DIED,
        ]
        await world.live(LONG)
        assert (await only(world)).state is State.READY

    play(tmp_path, story)


def test_a_killed_proxy_is_back_at_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await apply(world, web=service(world, "web"))
        world.proxy.kill()
        await world.live(0.5)
        assert world.proxy.connect("shop.web.80.tcp") is not None

    play(tmp_path, story)


def test_why_no_instance_can_be_made_is_told_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        refused = Refused("Environment 'shop' has no free address.", retryable=True)

        async def none_free(*_: object, **__: object) -> Instance:
            raise refused

        world.store.create_instance = none_free  # type: ignore[assignment, method-assign]
        await apply(world, web=service(world, "web"))
        events = [e for e in await world.store.events() if e.kind is EventKind.ACTION_FAILED]
        assert [(e.environment, e.message) for e in events] == [("shop", refused.message)]

    play(tmp_path, story)


@pytest.mark.parametrize("point", ["shutdown:asked", "shutdown:recorded", "shutdown:told"])
def test_a_daemon_killed_while_it_asks_does_not_pull_the_plug(point: str, tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await apply(world, web=service(world, "web"))
        world.hypervisor.shutdown_seconds = 4.0
        world.faults.armed = point
        stopped = await order(world, Goal.STOP)
        assert world.faults.armed is None
        assert stopped.state is State.STOPPED
        kinds = {event.kind for event in await world.store.events()}
        assert EventKind.GUEST_DESTROYED not in kinds

    play(tmp_path, story)


def test_a_shutdown_that_libvirt_refused_is_asked_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await apply(world, web=service(world, "web"))
        world.hypervisor.fail("shutdown", 3)
        stopped = await order(world, Goal.STOP)
        assert stopped.state is State.STOPPED
        kinds = {event.kind for event in await world.store.events()}
        assert EventKind.GUEST_DESTROYED not in kinds

    play(tmp_path, story)
