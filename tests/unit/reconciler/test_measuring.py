"""The sampler over the whole daemon on fakes in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from vmorch.errors import ProxyError, StoreError, VmorchError
from vmorch.metrics.history import History
from vmorch.model.counters import GuestCounters, TrafficReport
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.model.use import HostUse
from vmorch.reconciler.measuring import Measuring
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import World

TICK = 2.0


def host() -> HostUse:
    return HostUse(at=0, cpus=4, busy_cpus=1.0, memory_bytes=8, available_bytes=4, merged_bytes=0)


class Measured:
    """A world with two ready instances of one service, and its sampler."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history = History()
        self.sampler = Measuring(world.parts, self.history, host, tick_seconds=TICK)
        self.calls = 0
        self._ask = world.hypervisor.counters
        world.hypervisor.counters = self._counted  # type: ignore[method-assign]

    async def _counted(self) -> dict[str, GuestCounters]:
        self.calls += 1
        return dict(await self._ask())

    async def tick(self, count: int = 1) -> None:
        for _ in range(count):
            await self.world.live(TICK)
            await self.sampler.tick()


def play(directory: Path, story: Callable[[Measured], Awaitable[None]]) -> None:
    async def life() -> None:
        world = World(1, directory)
        world.boot()
        web = ServiceSpec(name="web", image=world.image("web"), cpus=0.5, expose=(80,), replicas=2)
        spec = EnvironmentSpec(name="shop", services={"web": web})
        await world.store.apply(spec, now=world.clock.now())
        await world.live(300)
        await story(Measured(world))
        await world.crash()

    run_virtually(life())


def test_what_a_look_measures(tmp_path: Path) -> None:
    async def story(one: Measured) -> None:
        await one.tick()
        session = one.world.proxy.connect("shop.web.80.tcp")
        assert session is not None
        await one.tick()
        service = one.history.services["shop", "web"].latest
        assert (service.instances, service.ready, service.sessions) == (2, 2, 1)
        assert service.cpu_share == pytest.approx(0.2)
        assert service.connections == pytest.approx(1 / TICK, rel=0.05)
        one.world.proxy.disconnect(session)
        await one.tick()
        assert one.history.services["shop", "web"].totals.requests == 1
        assert one.history.host is not None

    play(tmp_path, story)


def test_one_call_of_the_hypervisor_in_each_tick(tmp_path: Path) -> None:
    async def story(one: Measured) -> None:
        await one.tick(20)
        assert one.calls == 20

    play(tmp_path, story)


def test_a_hypervisor_that_hangs_costs_one_call_and_nobody_else(tmp_path: Path) -> None:
    async def story(one: Measured) -> None:
        await one.tick(2)
        one.world.hypervisor.hang("counters")
        await one.tick(5)
        assert one.calls == 3
        assert one.history.failures == {"hypervisor": 5}
        service = one.history.services["shop", "web"].latest
        assert (service.cpus, service.rss_bytes, service.ready) == (None, None, 2)
        assert service.sessions == 0

    play(tmp_path, story)


def test_it_goes_on_when_the_hypervisor_answers_again(tmp_path: Path) -> None:
    async def story(one: Measured) -> None:
        await one.tick(2)
        one.world.hypervisor.fail("counters")
        await one.tick()
        assert one.history.services["shop", "web"].latest.cpus is None
        await one.tick()
        assert one.history.services["shop", "web"].latest.cpu_share == pytest.approx(0.2)

    play(tmp_path, story)


def test_a_slow_answer_of_the_proxy_changes_no_rate_of_the_guests(tmp_path: Path) -> None:
    async def story(one: Measured) -> None:
        await one.tick(2)
        counters, shares = one.world.proxy.counters, []
        for seconds in (0.0, 1.9, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0):

            async def slow(seconds: float = seconds) -> TrafficReport | None:
                await one.world.clock.sleep(seconds)
                return await counters()

            one.world.proxy.counters = slow  # type: ignore[method-assign]
            await one.tick()
            shares.append(one.history.services["shop", "web"].latest.cpu_share)
        assert shares == [pytest.approx(0.2)] * len(shares)
        assert one.history.failures["proxy"] >= 2
        assert one.history.services["shop", "web"].latest.sessions == 0

    play(tmp_path, story)


def test_a_wall_clock_that_is_set_changes_no_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(one: Measured) -> None:
        await one.tick(2)
        clock = one.world.clock
        # The fake's guests count by the clock that is set here.
        monkeypatch.setattr(one, "_ask", _counted_by(clock.monotonic, one._ask))
        await one.tick()
        now = clock.now
        monkeypatch.setattr(clock, "now", lambda: now() - 3600)
        await one.tick()
        assert one.history.services["shop", "web"].latest.cpu_share == pytest.approx(0.2)
        assert one.history.looked_at == clock.now()

    play(tmp_path, story)


def _counted_by(time: Callable[[], float], ask: Any) -> Any:
    async def counted() -> dict[str, GuestCounters]:
        return {u: GuestCounters(life=1, cpu_seconds=time() / 10) for u in await ask()}

    return counted


def test_who_always_takes_longer_than_a_tick_is_measured_all_the_same(tmp_path: Path) -> None:
    async def story(one: Measured) -> None:
        ask, told = one._ask, []

        async def slow() -> Any:
            await one.world.clock.sleep(1.5 * TICK)
            return await ask()

        one._ask = slow
        for _ in range(10):
            await one.tick()
            told.append(one.history.services["shop", "web"].latest.cpu_share)
        known = [share for share in told if share is not None]
        assert known == [pytest.approx(0.2)] * 4, "each second look, once there was one"

    play(tmp_path, story)


def test_a_host_that_cannot_be_looked_at_is_unknown_in_that_tick(tmp_path: Path) -> None:
    async def story(one: Measured) -> None:
        def broken() -> HostUse:
            raise VmorchError("Too many open files.")

        one.sampler._host = broken
        await one.tick(2)
        assert (one.history.host, one.history.failures) == (None, {"host": 2})
        assert one.history.services["shop", "web"].latest.cpu_share == pytest.approx(0.2)
        one.sampler._host = host
        await one.tick()
        assert one.history.host == host()

    play(tmp_path, story)


def test_trouble_is_told_once_for_as_long_as_it_lasts(tmp_path: Path) -> None:
    async def story(one: Measured) -> None:
        counters = one.world.proxy.counters

        async def broken() -> TrafficReport | None:
            raise ProxyError("Away.")

        with capture_logs() as told:
            for ask in (broken, broken, counters, broken):
                one.world.proxy.counters = ask  # type: ignore[method-assign]
                await one.tick()
        missed = [line["source"] for line in told if line["event"] == "not measured"]
        assert missed == ["proxy", "proxy"]
        assert one.history.failures == {"proxy": 3}

    play(tmp_path, story)


def test_nothing_is_left_of_what_was_asked_when_it_ends(tmp_path: Path) -> None:
    async def story(one: Measured) -> None:
        one.world.hypervisor.hang("counters")
        running = asyncio.create_task(one.sampler.run())
        await one.world.clock.sleep(3 * TICK)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        left = {getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()}
        assert "Question._dated" not in left

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("port", "call", "error"),
    [
        ("proxy", "counters", ProxyError("Away.")),
        ("store", "environments", StoreError("Locked.")),
    ],
)
def test_trouble_ends_no_sampler(
    tmp_path: Path, port: str, call: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise error

    async def story(one: Measured) -> None:
        await one.tick(2)
        with monkeypatch.context() as patch:
            patch.setattr(getattr(one.world.parts, port), call, broken)
            await one.sampler.tick()
        await one.tick()
        assert one.history.services["shop", "web"].latest.sessions == 0

    play(tmp_path, story)


def test_who_is_gone_is_forgotten(tmp_path: Path) -> None:
    async def story(one: Measured) -> None:
        await one.tick()
        await one.world.store.scale("shop", {"web": 1}, now=one.world.clock.now())
        await one.world.live(300)
        await one.tick()
        assert [t.subject.name for t in one.history.instances.values()] == ["web-1"]
        await one.world.store.remove("shop", volumes=False, now=one.world.clock.now())
        await one.world.live(300)
        await one.tick()
        assert (one.history.instances, one.history.services) == ({}, {})

    play(tmp_path, story)
