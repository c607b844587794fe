"""A question to somebody who may be slow, which is never asked twice at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from vmorch.effects import Clock
from vmorch.errors import TimedOut

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """`at` is the monotonic time at which it came."""

    value: T
    at: float


class Question(Generic[T]):
    """`name` is whom it is put to. One that hangs holds a thread or a connection of others: it is
    waited for once, and stands until it is answered."""

    def __init__(self, name: str, ask: Callable[[], Awaitable[T]], clock: Clock) -> None:
        self.name = name
        self._ask = ask
        self._clock = clock
        self._asked: asyncio.Task[Answer[T]] | None = None

    async def answer(self, seconds: float) -> Answer[T]:
        """What is said within `seconds`, or has just been said, when that was not enough for it.

        Raises:
            TimedOut: nothing yet.
            VmorchError: whatever was raised instead of an answer.
        """
        if late := self._late(2 * seconds):
            return late
        if self._asked is None:
            self._asked = asyncio.create_task(self._dated())
            await asyncio.wait({self._asked}, timeout=seconds)
        if not self._asked.done():
            raise TimedOut(f"There is no answer from the {self.name} within {seconds:g} s.")
        asked, self._asked = self._asked, None
        return asked.result()

    async def close(self) -> None:
        if self._asked is not None:
            self._asked.cancel()
            await asyncio.gather(self._asked, return_exceptions=True)

    def _late(self, seconds: float) -> Answer[T] | None:
        """Who always takes longer than is waited for is heard all the same. Failures and what is
        older than `seconds` are not worth a look: then it is asked anew."""
        if self._asked is None or not self._asked.done():
            return None
        asked, self._asked = self._asked, None
        if asked.exception() is not None:
            return None
        answer = asked.result()
        return answer if self._clock.monotonic() - answer.at <= seconds else None

    async def _dated(self) -> Answer[T]:
        """Dated before anybody else's answer is waited for: a rate is of the time between two."""
        value = await self._ask()
        return Answer(value, self._clock.monotonic())
