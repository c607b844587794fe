"""Virtual time: an event loop in which waiting takes no time, and clock and entropy that follow.

The loop's selector never waits: when nothing is ready it moves the loop's own time to the next
timer. A run is therefore a pure function of its seed, as long as nothing in it uses threads,
sockets or the system's clock.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH = 1_700_000_000.0
"""What the virtual clock says at the beginning; any fixed moment would do."""


class Stuck(AssertionError):
    """Nothing is ready and no timer is set: a real daemon would hang here for ever."""


class _NoWaitSelector(selectors.SelectSelector):
    """Passes the wish to wait to the loop's own clock instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.skip: Callable[[float], None] = lambda seconds: None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("nothing is ready and no timer is set")
        if timeout > 0:
            self.skip(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        selector = _NoWaitSelector()
        super().__init__(selector)
        self._virtual_seconds = 0.0
        selector.skip = self._advance

    def time(self) -> float:
        return self._virtual_seconds

    def _advance(self, seconds: float) -> None:
        # A timer due "now" after rounding must not be waited for again and again.
        self._virtual_seconds += max(seconds, 1e-6)


class VirtualClock:
    """See `vmorch.effects.Clock`."""

    def now(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SeededEntropy:
    """See `vmorch.effects.Entropy`."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def random_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def uuid(self) -> str:
        return str(uuid.UUID(bytes=self.random_bytes(16), version=4))


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in virtual time.

    Raises:
        Stuck: it waits for something that can never happen.
    """
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        if pending:
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()


class VirtualProcesses:
    """Processes that exist because a test says so: number → identity."""

    def __init__(self) -> None:
        self.identities: dict[int, str] = {}

    def identity(self, pid: int) -> str | None:
        return self.identities.get(pid)
