"""What the daemon hears of the hypervisor's events: some are lost, some come twice or late."""

from __future__ import annotations

from collections.abc import AsyncIterator

from vmorch.effects import Clock
from vmorch.hypervisor.protocol import GuestHint, Hypervisor


class Hearing:
    """The next `lose` hints never come, the next `repeat` come twice, the next `delay` come
    `LATE_SECONDS` late, and all behind them, too."""

    LATE_SECONDS = 2.0

    def __init__(self, clock: Clock) -> None:
        self.lose = self.repeat = self.delay = 0
        self.last_at = 0.0
        self._clock = clock

    def clear(self) -> None:
        self.lose = self.repeat = self.delay = 0

    @property
    def pending(self) -> bool:
        return bool(self.lose or self.repeat or self.delay)

    async def of(self, hypervisor: Hypervisor) -> AsyncIterator[GuestHint]:
        async for hint in hypervisor.hints():
            if not self.pending:
                yield hint
                continue
            self.last_at = self._clock.now()
            if self.lose:
                self.lose -= 1
                continue
            if self.delay:
                self.delay -= 1
                await self._clock.sleep(self.LATE_SECONDS)
            yield hint
            if self.repeat:
                self.repeat -= 1
                yield hint
