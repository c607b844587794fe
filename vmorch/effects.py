"""Ports for time, randomness and planned failure, so that the whole daemon runs in virtual time.

Code that has effects takes a `Clock`, an `Entropy` and a `Faults` from its constructor and never
reads the system's own. The simulation passes virtual ones.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class Entropy(Protocol):
    def random_bytes(self, count: int) -> bytes: ...

    def uuid(self) -> str: ...


class Faults(Protocol):
    """A named point between two effects. Tests kill, delay or fail there; production passes."""

    async def at(self, point: str) -> None: ...


class SystemClock:
    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SystemEntropy:
    def random_bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)

    def uuid(self) -> str:
        return str(uuid.UUID(bytes=self.random_bytes(16), version=4))


class NoFaults:
    async def at(self, point: str) -> None:
        return None
