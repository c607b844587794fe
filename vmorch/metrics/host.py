"""The host's own use, by psutil and the kernel's files. Cheap; blocks for no device."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

from vmorch.metrics.rates import passed, rate
from vmorch.model.use import HostUse

_KSM = Path("/sys/kernel/mm/ksm/pages_sharing")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class HostSampler:
    """Remembers the last look, of which the next one is the rate."""

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def measure(self, now: float) -> HostUse:
        busy, memory = _busy_seconds(), psutil.virtual_memory()
        cpus = None
        if self._before is not None:
            at, former = self._before
            cpus = rate(former, busy, passed(at, now))
        self._before = now, busy
        return HostUse(
            at=now,
            cpus=os.cpu_count() or 1,
            busy_cpus=cpus,
            memory_bytes=memory.total,
            available_bytes=memory.available,
            merged_bytes=_merged_bytes(),
        )


def _busy_seconds() -> float:
    """Of all processors. The time of guests is in `user`, too (proc(5))."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def _merged_bytes() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(_KSM.read_text()) * _PAGE_BYTES
    return 0
