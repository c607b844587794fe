"""What the memory of each guest weighs on the host, in turn and beside everything else.

The kernel walks a guest's page tables for it: some milliseconds for a gigabyte, and longer where
the host is busy. No tick waits for that: the last weight of a process is told until there is
another.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Mapping
from typing import Protocol

from vmorch.model.counters import MemoryWeight

WEIGH_SECONDS = 60.0
"""So long nobody is weighed again, and within about this time everybody is."""


class Weighed(Protocol):
    def weight(self) -> MemoryWeight | None:
        """Blocking."""
        ...


class Weighing:
    """`weights` by the life of a guest's process, as far as they are known. Times are those of the
    running loop."""

    def __init__(self) -> None:
        self.weights: dict[int, MemoryWeight] = {}
        self._asked_at: dict[int, float] = {}
        self._began_at: float | None = None
        self._under_way: asyncio.Task[None] | None = None

    def go_on(self, processes: Mapping[int, Weighed], now: float) -> None:
        """Weigh those whose turn it is, once the ones before are; forget those that are gone."""
        self.weights = {life: w for life, w in self.weights.items() if life in processes}
        self._asked_at = {life: at for life, at in self._asked_at.items() if life in processes}
        if self._under_way is None or self._under_way.done():
            turn = self._turn(processes, now)
            self._under_way = asyncio.create_task(self._weigh(turn), name="guests-weight")

    async def close(self) -> None:
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.gather(self._under_way, return_exceptions=True)

    def _turn(self, processes: Mapping[int, Weighed], now: float) -> dict[int, Weighed]:
        """As many as keep the pace, those first that have waited longest."""
        passed = 0.0 if self._began_at is None else now - self._began_at
        self._began_at = now
        due = [life for life in processes if now - self._last(life) >= WEIGH_SECONDS]
        count = max(1, math.ceil(len(processes) * passed / WEIGH_SECONDS))
        turn = heapq.nsmallest(count, due, key=self._last)
        self._asked_at |= dict.fromkeys(turn, now)
        return {life: processes[life] for life in turn}

    def _last(self, life: int) -> float:
        return self._asked_at.get(life, -math.inf)

    async def _weigh(self, turn: Mapping[int, Weighed]) -> None:
        for life, process in turn.items():
            if (weight := await asyncio.to_thread(process.weight)) is not None:
                self.weights[life] = weight
