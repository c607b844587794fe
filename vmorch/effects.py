"""Ports for time, randomness and planned failure, so that the whole daemon runs in virtual time.

Code that has effects takes a `Clock`, an `Entropy` and a `Faults` from its constructor and never
reads the system's own. The simulation passes virtual ones.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
import uuid
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch, for people and for what is written down. It may be set."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that nobody sets: only the difference of two says anything."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class Entropy(Protocol):
    def random_bytes(self, count: int) -> bytes: ...

    def uuid(self) -> str: ...


class Faults(Protocol):
    """A named point between two effects. Tests kill, delay or fail there; production passes."""

    async def at(self, point: str) -> None: ...


class Processes(Protocol):
    def identity(self, pid: int) -> str | None:
        """What tells this process from a later one of the same number: `PID:…`. None when there
        is no such process, or it has ended and only its parent has not noticed.

        Raises:
            OSError: it cannot be told, as when too many files are open.
        """
        ...


class SystemClock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

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


class KillAt:
    """A test aid: the process dies at one point as by `kill -9`, before it passes it."""

    def __init__(self, point: str) -> None:
        self._point = point

    async def at(self, point: str) -> None:
        if point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)


class SystemProcesses:
    """By /proc: the number, the time of its start in ticks since boot, and which boot that was
    (proc(5))."""

    def identity(self, pid: int) -> str | None:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        # The second field is the program's name in parentheses, and may hold any character.
        state, *fields = stat.rpartition(")")[2].split()
        return None if state in {"Z", "X"} else f"{pid}:{fields[18]}:{boot[:8]}"
