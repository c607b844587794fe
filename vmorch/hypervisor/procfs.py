"""What the kernel has counted of a guest's QEMU: proc(5) and its control group. Blocking, cheap.

libvirt could say most of it, too, but asks QEMU's monitor first (its group CPU_TOTAL does), so that
one stopped QEMU would hold up the whole bulk call. The kernel answers always.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from vmorch.model.counters import MemoryWeight

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CHUNK = 8192


class GuestProcess:
    """One QEMU process. Each answer is None where the kernel does not give it (any more)."""

    def __init__(self, pid: int, *, proc: Path = Path("/proc"), cgroups: Path | None = None):
        directory = proc / str(pid)
        self._stat, self._statm = str(directory / "stat"), str(directory / "statm")
        self._io, self._smaps = str(directory / "io"), str(directory / "smaps_rollup")
        self._throttling = throttling_file(directory, cgroups or Path("/sys/fs/cgroup"))

    def cpu_seconds(self) -> float | None:
        """User and system time of all its threads."""
        # The second field is the program's name in parentheses, and may hold any character.
        fields = _read(self._stat).rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS if len(fields) > 12 else None

    def rss_bytes(self) -> int | None:
        fields = _read(self._statm).split()
        return int(fields[1]) * _PAGE_BYTES if len(fields) > 1 else None

    def storage_bytes(self) -> tuple[int | None, int | None]:
        """Read from and written to storage; what the page cache answered is in neither."""
        found = dict(_pairs(_read(self._io), b":"))
        return found.get(b"read_bytes"), found.get(b"write_bytes")

    def throttled_seconds(self) -> float | None:
        if self._throttling is None:
            return None
        found = dict(_pairs(_read(self._throttling), b" "))
        if (nanoseconds := found.get(b"throttled_time")) is not None:  # cgroup v1
            return nanoseconds / 1e9
        microseconds = found.get(b"throttled_usec")
        return None if microseconds is None else microseconds / 1e6

    def weight(self) -> MemoryWeight | None:
        """Walks its page tables: some milliseconds for a gigabyte, so not in each tick."""
        kib = dict(_pairs(_read(self._smaps), b":"))
        if b"Pss" not in kib:
            return None
        shared = kib.get(b"Shared_Clean", 0) + kib.get(b"Shared_Dirty", 0)
        return MemoryWeight(pss_bytes=kib[b"Pss"] * 1024, shared_bytes=shared * 1024)


def throttling_file(process: Path, cgroups: Path) -> str | None:
    """The statistics of the group that holds the whole guest, cgroup v1 or v2. QEMU's main thread
    is in a group `emulator` below it; the cap of the whole guest is set above that."""
    for line in _read(str(process / "cgroup")).decode().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / controllers if controllers else cgroups
        file = root / path.removesuffix("/emulator").lstrip("/") / "cpu.stat"
        if file.exists():
            return str(file)
    return None


def _pairs(text: bytes, separator: bytes) -> Iterator[tuple[bytes, int]]:
    for line in text.splitlines():
        name, _, value = line.partition(separator)
        with contextlib.suppress(ValueError, IndexError):
            yield name, int(value.split()[0])


def _read(file: str) -> bytes:
    """Empty when it is not there, or its process has just ended."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
