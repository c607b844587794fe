"""Whether the host's kernel has killed for want of memory, a control group's or its own.

libvirt only sees that QEMU is gone; the group that would tell why is gone with it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

_VMSTAT = Path("/proc/vmstat")


class OomKills:
    """`mark` at each look at the guests; `recent` says whether the kernel has killed since the
    look before the last one, as the last one may have come between the kill and its event."""

    def __init__(self, vmstat: Path = _VMSTAT) -> None:
        self._vmstat = vmstat
        self._marks = (self._count(), self._count())

    def mark(self) -> None:
        self._marks = (self._marks[1], self._count())

    def recent(self) -> bool:
        return self._count() > self._marks[0]

    def _count(self) -> int:
        """Of the whole host since it booted; 0 where the kernel does not say."""
        with contextlib.suppress(OSError, ValueError):
            for line in self._vmstat.read_text().splitlines():
                name, _, number = line.partition(" ")
                if name == "oom_kill":
                    return int(number)
        return 0
