"""Questions to whoever may be slow, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from vmorch.errors import HypervisorError, TimedOut
from vmorch.reconciler.question import Question
from vmorch.simulation.virtual import VirtualClock, run_virtually

TICK = 2.0


class Asked:
    """`takes` is how long each answer takes; it is the number of the question. The failing ones
    raise."""

    def __init__(self, *takes: float, failing: tuple[int, ...] = ()) -> None:
        self.count = 0
        self.question = Question("hypervisor", self._ask, VirtualClock())
        self._takes = takes
        self._failing = failing

    async def _ask(self) -> int:
        self.count += 1
        number = self.count
        await asyncio.sleep(self._takes[number - 1])
        if number in self._failing:
            raise HypervisorError("It is away.")
        return number


def play(asked: Asked, story: Callable[[], Awaitable[None]]) -> None:
    async def life() -> None:
        try:
            await story()
        finally:
            await asked.question.close()

    run_virtually(life())


def test_an_answer_bears_the_time_at_which_it_came() -> None:
    asked = Asked(1.5)

    async def story() -> None:
        answer = await asked.question.answer(TICK)
        assert (answer.value, answer.at) == (1, pytest.approx(1.5))

    play(asked, story)


def test_one_that_hangs_is_waited_for_once_and_not_asked_again() -> None:
    asked = Asked(100.0)

    async def story() -> None:
        for seconds in (TICK, 0.0, 0.0):
            began = VirtualClock().monotonic()
            with pytest.raises(TimedOut, match="no answer from the hypervisor within 2 s"):
                await asked.question.answer(TICK)
            assert VirtualClock().monotonic() - began == pytest.approx(seconds)
        assert asked.count == 1

    play(asked, story)


@pytest.mark.parametrize(("later", "number"), [(2.0, 1), (30.0, 2)])
def test_what_was_said_too_late_is_heard_unless_it_is_old(later: float, number: int) -> None:
    asked = Asked(3.0, 0.0)

    async def story() -> None:
        with pytest.raises(TimedOut):
            await asked.question.answer(TICK)
        await asyncio.sleep(later)
        answer = await asked.question.answer(TICK)
        assert (answer.value, asked.count) == (number, number)
        if number == 1:
            assert answer.at == pytest.approx(3.0)

    play(asked, story)


def test_who_failed_too_late_is_asked_again() -> None:
    asked = Asked(3.0, 0.0, 0.0, failing=(1, 3))

    async def story() -> None:
        with pytest.raises(TimedOut):
            await asked.question.answer(TICK)
        await asyncio.sleep(TICK)
        assert (await asked.question.answer(TICK)).value == 2
        with pytest.raises(HypervisorError, match="away"):
            await asked.question.answer(TICK)

    play(asked, story)
