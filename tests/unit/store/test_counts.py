"""Numbers of instances of services that scale by themselves: what a user's word does to them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from vmorch.errors import Refused
from vmorch.model.autoscale import AutoscaleSpec, ScheduledFloor
from vmorch.model.counts import at_least, awake
from vmorch.model.names import Installation
from vmorch.model.spec import EnvironmentSpec, ServiceSpec, VolumeMount
from vmorch.store.sqlite import SqliteStore

BOUNDS = AutoscaleSpec(min=2, max=4, cpu=0.5)
SLEEPY = AutoscaleSpec(min=0, max=4, cpu=0.5, idle_seconds=60)


def spec(autoscale: AutoscaleSpec | None = BOUNDS, **changes: Any) -> EnvironmentSpec:
    web = ServiceSpec(name="web", image="sha256:1", expose=(80,), autoscale=autoscale, **changes)
    return EnvironmentSpec(name="shop", services={"web": web})


class Shop:
    """An environment in a store of its own."""

    def __init__(self) -> None:
        self.store = SqliteStore(
            ":memory:",
            Installation("ab" * 16),
            outer_pool="10.213.0.0/16",
            inner_subnet="10.212.0.0/24",
        )

    async def up(self, wanted: EnvironmentSpec, **how: Any) -> int:
        await self.store.apply(wanted, now=1.0, **how)
        return await self.count()

    async def scale(self, count: int, **how: Any) -> int:
        await self.store.scale("shop", {"web": count}, now=2.0, **how)
        return await self.count()

    async def count(self) -> int:
        return (await self.store.environment("shop")).spec.services["web"].replicas


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


@pytest.mark.parametrize(
    ("autoscale", "replicas", "first"),
    [(BOUNDS, 1, 2), (BOUNDS, 3, 3), (BOUNDS, 9, 4), (SLEEPY, 0, 1), (SLEEPY, 1, 1), (None, 9, 9)],
)
def test_a_new_service_begins_within_its_bounds_and_awake(
    autoscale: AutoscaleSpec | None, replicas: int, first: int
) -> None:
    async def story() -> None:
        assert await Shop().up(spec(autoscale, replicas=replicas)) == first

    run(story())


def test_what_was_declared_before_keeps_its_number_within_its_new_bounds() -> None:
    async def story() -> None:
        shop = Shop()
        await shop.up(spec())
        assert await shop.scale(4) == 4
        assert await shop.up(spec(replicas=1)) == 4
        assert await shop.up(spec(replace(BOUNDS, max=3))) == 3
        assert await shop.up(spec(SLEEPY)) == 3
        assert await shop.scale(0) == 0
        assert await shop.up(spec(SLEEPY, replicas=3)) == 0
        assert await shop.up(spec(BOUNDS)) == 2
        assert await shop.up(spec(None, replicas=7)) == 7

    run(story())


def test_a_number_with_up_is_an_order() -> None:
    async def story() -> None:
        shop = Shop()
        await shop.up(spec())
        assert await shop.up(spec(replicas=4), by_hand={"web"}) == 4
        assert await shop.up(spec(replicas=3), by_hand={"web"}) == 3
        with pytest.raises(Refused, match="from 2 to 4 instances, so it cannot have 5"):
            await shop.up(spec(replicas=5), by_hand={"web"})
        assert await shop.count() == 3

    run(story())


@pytest.mark.parametrize(("autoscale", "count"), [(BOUNDS, 1), (BOUNDS, 5), (SLEEPY, 5)])
def test_a_number_that_would_not_last_is_refused(autoscale: AutoscaleSpec, count: int) -> None:
    async def story() -> None:
        shop = Shop()
        before = await shop.up(spec(autoscale))
        with pytest.raises(Refused, match=f"cannot have {count}"):
            await shop.scale(count)
        assert await shop.count() == before

    run(story())


def test_a_number_below_a_floor_that_holds_is_refused() -> None:
    """The next decision would undo it."""
    floor = ScheduledFloor(start_minute=0, end_minute=60, min=3)

    async def story() -> None:
        shop = Shop()
        scheduled = spec(replace(BOUNDS, schedule=(floor,)), replicas=4)
        await shop.up(scheduled)
        with pytest.raises(Refused, match="from 3 to 4 instances, so it cannot have 2") as caught:
            await shop.scale(2)
        assert caught.value.hint.startswith("The schedule asks for 3 at least from 00:00 to 01:00 ")
        with pytest.raises(Refused, match="cannot have 2"):
            await shop.up(spec(scheduled.services["web"].autoscale, replicas=2), by_hand={"web"})
        with pytest.raises(Refused) as caught:
            await shop.scale(5)
        assert caught.value.hint.startswith("Change 'autoscale'")
        await shop.store.scale("shop", {"web": 2}, now=3600.0)
        assert await shop.count() == 2

    run(story())


def test_who_is_woken_under_a_floor_has_what_it_asks_for() -> None:
    floor = ScheduledFloor(start_minute=0, end_minute=60, min=3)
    web = spec(replace(SLEEPY, schedule=(floor,))).services["web"]
    assert [awake(web, now) for now in (0.0, 3600.0)] == [3, 1]


def test_a_number_that_was_decided_on_another_version_is_refused() -> None:
    async def story() -> None:
        shop = Shop()
        await shop.up(spec())
        seen = (await shop.store.environment("shop")).version
        await shop.scale(4)
        with pytest.raises(Refused, match="somebody else changed it"):
            await shop.scale(3, expected_version=seen)
        assert await shop.count() == 4

    run(story())


def test_a_rollback_keeps_the_number_and_the_bounds() -> None:
    now = spec(BOUNDS, replicas=4).services["web"]
    earlier = spec(None, replicas=1).services["web"]
    back = now.back_to(earlier)
    assert (back.replicas, back.autoscale) == (4, BOUNDS)


@pytest.mark.parametrize(
    ("now", "before", "count"), [(SLEEPY, None, 1), (SLEEPY, SLEEPY, 0), (None, None, 0)]
)
def test_a_rollback_leaves_nobody_asleep_whom_nothing_wakes(
    now: AutoscaleSpec | None, before: AutoscaleSpec | None, count: int
) -> None:
    """A volume of one instance takes the earlier bounds along."""
    sleeping = spec(now, replicas=0).services["web"]
    alone = (VolumeMount(source="data", target="/x"),)
    earlier = replace(spec(before).services["web"], volumes=alone)
    assert sleeping.back_to(earlier).replicas == count


def test_the_host_must_have_room_for_the_least_only() -> None:
    def least(autoscale: AutoscaleSpec | None, **how: Any) -> int:
        return at_least(spec(autoscale, replicas=4), **how).services["web"].replicas

    assert [least(bounds) for bounds in (BOUNDS, SLEEPY, None)] == [2, 1, 4]
    assert least(BOUNDS, by_hand={"web"}) == 4
