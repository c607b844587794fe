"""The host's own use, by psutil and the kernel's files. Cheap; blocks for no device."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

from vmorch.effects import Clock
from vmorch.errors import VmorchError
from vmorch.metrics.rates import passed, rate, risen
from vmorch.model.use import HostUse

_KSM = Path("/sys/kernel/mm/ksm/pages_sharing")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class HostSampler:
    """Remembers the last look, of which the next one is the rate."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._before: tuple[float, float] | None = None

    def measure(self) -> HostUse:
        """Raises VmorchError: the kernel does not tell, as when too many files are open."""
        try:
            busy, memory = _busy_seconds(), psutil.virtual_memory()
        except (OSError, LookupError, ValueError, psutil.Error) as error:
            raise VmorchError(f"What the host uses cannot be read: {error}.") from error
        return HostUse(
            at=self._clock.now(),
            cpus=os.cpu_count() or 1,
            busy_cpus=self._busy_cpus(busy),
            memory_bytes=memory.total,
            available_bytes=memory.available,
            merged_bytes=_merged_bytes(),
        )

    def _busy_cpus(self, busy: float) -> float | None:
        now, before = self._clock.monotonic(), self._before
        self._before = now, busy
        return rate(risen(before[1], busy), passed(before[0], now)) if before else None


def _busy_seconds() -> float:
    """Of all processors. The time of guests is in `user`, too (proc(5))."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _merged_bytes() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(_KSM.read_text()) * _PAGE_BYTES
    return 0
