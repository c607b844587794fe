"""The number of instances follows the load: the whole daemon on fakes in virtual time, with loads
as the proxy would count them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmorch.metrics.history import History
from vmorch.model.autoscale import AutoscaleSpec
from vmorch.model.event import Event, EventKind
from vmorch.model.instance import Goal, State
from vmorch.model.rollout import Phase
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.model.use import HostUse
from vmorch.planner.explain import explain_service
from vmorch.reconciler.autoscaling import Autoscaling
from vmorch.reconciler.measuring import Measuring
from vmorch.simulation.troubles import Trouble
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import World

TICK = 2.0
BACKEND = "shop.web.80.tcp"
BUSY = AutoscaleSpec(max=4, concurrency=10, stabilization_seconds=60)
SLEEPY = AutoscaleSpec(min=0, max=2, concurrency=10, idle_seconds=60)


def host() -> HostUse:
    return HostUse(at=0, cpus=4, busy_cpus=1.0, memory_bytes=8, available_bytes=4, merged_bytes=0)


class Scaled:
    """A world with a service, its sampler and its autoscaler. A tick passes between two decisions,
    and nothing of the real time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sessions: list[Any] = []
        self.wakes = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        """As a new daemon does."""
        self.history = History()
        self.autoscaling = Autoscaling(self.world.parts, self.history, self._wake)
        self.sampler = Measuring(
            self.world.parts,
            self.history,
            host,
            tick_seconds=TICK,
            follow=self.autoscaling.follow,
        )

    def _wake(self) -> None:
        assert self.world.reconciler is not None
        self.wakes += 1
        self.world.reconciler.wake()

    async def tick(self, count: int = 1) -> None:
        for _ in range(count):
            await self.sampler.tick()
            await self.world.live(TICK)

    async def load(self, sessions: int) -> None:
        """So many are in flight from now on."""
        while len(self.sessions) > sessions:
            self.world.proxy.disconnect(self.sessions.pop())
        while len(self.sessions) < sessions:
            session = self.world.proxy.connect(BACKEND)
            assert session is not None
            self.sessions.append(session)

    async def count(self) -> int:
        return (await self.world.store.environment("shop")).spec.services["web"].replicas

    async def scaled(self) -> list[Event]:
        events = await self.world.store.events(after=0, limit=10_000)
        return [event for event in events if event.kind is EventKind.SERVICE_SCALED]

    async def why(self) -> list[str]:
        """What `vmorch why web` notes."""
        assert self.world.reconciler is not None
        look = self.autoscaling.told(self.world.reconciler.last_look())
        assert look is not None
        (shop,) = look.snapshot.environments
        events = await self.scaled()
        return list(explain_service(look, shop, "web", events, self.world.clock.now()).notes)


def play(
    directory: Path, story: Callable[[Scaled], Awaitable[None]], autoscale: AutoscaleSpec = BUSY
) -> None:
    async def life() -> None:
        world = World(1, directory)
        world.boot()
        web = ServiceSpec(
            name="web", image=world.image("web"), cpus=0.5, expose=(80,), autoscale=autoscale
        )
        spec = EnvironmentSpec(name="shop", services={"web": web})
        await world.store.apply(spec, now=world.clock.now())
        await world.live(300)
        await story(Scaled(world))
        await world.crash()

    run_virtually(life())


def test_a_burst_is_answered_at_the_second_tick(tmp_path: Path) -> None:
    async def story(one: Scaled) -> None:
        await one.tick(40)
        assert (await one.count(), await one.scaled()) == (1, [])
        await one.load(25)
        counts = []
        for _ in range(3):
            await one.tick()
            counts.append(await one.count())
        assert counts == [1, 2, 3]
        event, _ = await one.scaled()
        assert (event.environment, event.service) == ("shop", "web")
        assert event.message.startswith("Scaled from 1 to 2: 16.7 requests in flight over 6s, ")
        assert event.message.endswith("10 for each instance, in a burst.")

    play(tmp_path, story)


def test_the_reconciler_is_woken_and_what_it_does_is_its_own(tmp_path: Path) -> None:
    async def story(one: Scaled) -> None:
        await one.tick(40)
        await one.load(25)
        await one.tick(30)
        assert one.wakes == len(await one.scaled()) == 2
        states = [i.state for i in await one.world.store.instances("shop")]
        assert states == [State.READY] * 3

    play(tmp_path, story)


def test_in_again_when_the_time_of_stabilization_is_over(tmp_path: Path) -> None:
    async def story(one: Scaled) -> None:
        await one.tick(40)
        await one.load(25)
        await one.tick(40)
        await one.load(0)
        await one.tick(20)
        assert await one.count() == 3
        await one.tick(60)
        assert await one.count() == 1
        assert (await one.scaled())[-1].message.startswith("Scaled from ")

    play(tmp_path, story)


def test_what_is_not_known_changes_nothing(tmp_path: Path) -> None:
    async def story(one: Scaled) -> None:
        await one.tick(40)
        await one.load(25)
        await one.tick(40)
        await one.load(0)
        one.world.troubles.add(Trouble(port="proxy", call="counters", times=100))
        await one.tick(100)
        assert await one.count() == 3
        assert "measures of concurrency are missing" in (await one.why())[0]

    play(tmp_path, story)


@pytest.mark.parametrize("goal", [Goal.STOP, Goal.SLEEP, Goal.PAUSE])
def test_what_a_user_has_stopped_is_left_alone(tmp_path: Path, goal: Goal) -> None:
    async def story(one: Scaled) -> None:
        await one.world.store.scale("shop", {"web": 2}, now=one.world.clock.now())
        await one.world.live(60)
        await one.world.store.set_goal("shop", goal, instances={"web-2"})
        await one.tick(40)
        await one.load(40)
        await one.tick(40)
        assert (await one.count(), await one.scaled()) == (2, [])
        assert "stays at 2: web-2 was" in (await one.why())[0]
        await one.world.store.set_goal("shop", Goal.RUN)
        await one.tick(2)
        assert await one.count() == 4

    play(tmp_path, story)


def test_an_order_that_comes_during_a_tick_is_not_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(one: Scaled) -> None:
        await one.tick(40)
        await one.load(25)
        await one.tick()
        ask = one.world.proxy.counters

        async def meanwhile() -> Any:
            await one.world.store.scale("shop", {"web": 4}, now=one.world.clock.now())
            return await ask()

        with monkeypatch.context() as patch:
            patch.setattr(one.world.proxy, "counters", meanwhile)
            await one.sampler.tick()
        assert (await one.count(), await one.scaled()) == (4, [])
        await one.load(0)
        await one.tick(25)
        assert (await one.count(), await one.scaled()) == (4, [])

    play(tmp_path, story)


def test_a_store_that_fails_costs_a_tick(tmp_path: Path) -> None:
    async def story(one: Scaled) -> None:
        await one.tick(40)
        await one.load(25)
        await one.tick()
        one.world.troubles.add(Trouble(port="store", call="scale"))
        await one.tick()
        assert (await one.count(), await one.scaled()) == (1, [])
        await one.tick()
        assert await one.count() == 3

    play(tmp_path, story)


def test_a_new_daemon_takes_nothing_away_at_first(tmp_path: Path) -> None:
    async def story(one: Scaled) -> None:
        await one.tick(40)
        await one.load(25)
        await one.tick(40)
        await one.load(0)
        one.begin_anew()
        await one.tick(50)
        assert await one.count() == 3, "neither while measures are missing, nor for a time after"
        await one.tick(20)
        assert await one.count() == 1

    play(tmp_path, story)


@pytest.mark.parametrize("sessions", [0, 25])
def test_nothing_of_an_environment_that_is_being_removed(tmp_path: Path, sessions: int) -> None:
    async def story(one: Scaled) -> None:
        await one.tick(40)
        await one.load(sessions)
        await one.world.store.remove("shop", volumes=False, now=one.world.clock.now())
        for _ in range(5):
            await one.sampler.tick()
        assert (await one.scaled(), one.autoscaling.reasons) == ([], {})
        assert one.history.services["shop", "web"].desired == 0

    play(tmp_path, story)


def test_why_tells_the_last_decision(tmp_path: Path) -> None:
    async def story(one: Scaled) -> None:
        assert (await one.why())[0] == ("it scales by itself, from 1 to 4: nothing is decided yet")
        await one.load(5)
        await one.tick(40)
        assert (await one.why())[0] == (
            "it scales by itself, from 1 to 4: stays at 1: 5 requests in flight over 60s, 10 for "
            "each instance"
        )

    play(tmp_path, story)


# Sleep and wake


def test_it_sleeps_when_it_is_idle_and_wakes_when_somebody_asks(tmp_path: Path) -> None:
    async def story(one: Scaled) -> None:
        await one.tick(31)
        assert (await one.count(), await one.scaled()) == (1, [])
        await one.tick()
        assert await one.count() == 0
        assert [e.message for e in await one.scaled()] == [
            "Scaled from 1 to 0: nothing was asked for 60s."
        ]
        await one.tick(5)
        (instance,) = await one.world.store.instances("shop")
        assert instance.state is State.SLEEPING
        assert "stays at 0: asleep until somebody asks for it" in (await one.why())[0]
        one.world.proxy.call(BACKEND)
        await one.tick(10)
        (instance,) = await one.world.store.instances("shop")
        assert (await one.count(), instance.state) == (1, State.READY)
        await one.tick(35)
        assert await one.count() == 0, "and again"

    play(tmp_path, story, SLEEPY)


def test_it_does_not_sleep_with_a_session_open_nor_with_a_hole(tmp_path: Path) -> None:
    async def story(one: Scaled) -> None:
        await one.load(1)
        await one.tick(60)
        await one.load(0)
        await one.tick(20)
        one.world.troubles.add(Trouble(port="proxy", call="counters", times=5))
        await one.tick(35)
        assert await one.count() == 1
        await one.tick(5)
        assert await one.count() == 0

    play(tmp_path, story, SLEEPY)


def test_it_does_not_sleep_while_a_rollout_is_open(tmp_path: Path) -> None:
    async def story(one: Scaled) -> None:
        store = one.world.store
        await one.tick(20)
        rollout = await store.latest_rollout("shop", "web")
        await store.put_rollout(replace(rollout, phase=Phase.PAUSED), was=rollout)
        await one.tick(60)
        assert await one.count() == 1
        await store.put_rollout(rollout, was=replace(rollout, phase=Phase.PAUSED))
        await one.tick()
        assert await one.count() == 0

    play(tmp_path, story, SLEEPY)
