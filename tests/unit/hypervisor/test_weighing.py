"""Whose memory is weighed when: the kernel is not asked more than it must be."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from vmorch.hypervisor.weighing import WEIGH_SECONDS, Weighing
from vmorch.model.counters import MemoryWeight

TICK = 2.0


class Process:
    """`count` is how often it was weighed; what it weighs, too."""

    def __init__(self, *, known: bool = True) -> None:
        self.count = 0
        self.go = threading.Event()
        self.go.set()
        self._known = known

    def weight(self) -> MemoryWeight | None:
        self.go.wait(10)
        self.count += 1
        return MemoryWeight(pss_bytes=self.count, shared_bytes=0) if self._known else None


async def ticks(one: Weighing, processes: dict[int, Process], *times: float) -> list[int]:
    """How many were weighed at each."""
    counts = []
    for now in times:
        before = sum(process.count for process in processes.values())
        one.go_on(processes, now)
        assert one._under_way is not None
        await one._under_way
        counts.append(sum(process.count for process in processes.values()) - before)
    return counts


def times(first: int, last: int) -> list[float]:
    return [tick * TICK for tick in range(first, last)]


def test_one_guest_is_weighed_once_a_minute() -> None:
    guest = Process()

    async def story() -> None:
        counts = await ticks(Weighing(), {1: guest}, *times(0, 90))
        assert [n for n, count in enumerate(counts) if count] == [0, 30, 60]

    asyncio.run(story())


def test_all_are_weighed_within_a_minute_a_few_at_a_time() -> None:
    guests = {n: Process(known=n % 2 == 0) for n in range(600)}

    async def story() -> None:
        one = Weighing()
        counts = await ticks(one, guests, *times(0, 32))
        assert max(counts) <= 20
        assert Counter(g.count for g in guests.values()).keys() <= {1, 2}
        assert one.weights.keys() == {n for n in guests if n % 2 == 0}

    asyncio.run(story())


def test_what_is_slow_is_not_asked_twice_and_the_rest_is_made_up_for() -> None:
    guests = {n: Process() for n in range(60)}
    guests[0].go.clear()

    async def story() -> None:
        one = Weighing()
        for now in times(0, 16):
            one.go_on(guests, now)
            await asyncio.sleep(0)
        guests[0].go.set()
        assert one._under_way is not None
        await one._under_way
        assert sum(guest.count for guest in guests.values()) == 1
        assert await ticks(one, guests, 32.0) == [32]

    asyncio.run(story())


def test_who_is_gone_is_forgotten_and_who_is_new_comes_first() -> None:
    guests = {n: Process() for n in range(3)}

    async def story() -> None:
        one = Weighing()
        await ticks(one, guests, *times(0, 5))
        assert one.weights.keys() == {0, 1, 2}
        new = Process()
        await ticks(one, {1: guests[1], 7: new}, 5 * TICK)
        assert (one.weights.keys(), new.count) == ({1, 7}, 1)
        assert one._asked_at.keys() == {1, 7}
        await one.close()

    asyncio.run(story())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.lists(st.floats(0.5, 10), min_size=1, max_size=40))
def test_nobody_is_weighed_oftener_than_once_a_minute(count: int, steps: list[float]) -> None:
    guests = {n: Process() for n in range(count)}

    async def story() -> None:
        one, now, last = Weighing(), 0.0, dict.fromkeys(guests, float("-inf"))
        for step in steps:
            now += step
            before = {n: guest.count for n, guest in guests.items()}
            await ticks(one, guests, now)
            for n in (n for n, guest in guests.items() if guest.count > before[n]):
                assert now - last[n] >= WEIGH_SECONDS
                last[n] = now

    asyncio.run(story())
