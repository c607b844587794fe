"""What guests need and have taken of a host, and the arithmetic of it in words for people. Pure.

What is needed is rounded up and what is free down, to whole MiB, so that no sentence says that
something does not fit into as much room.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmorch.model.host import HostView
from vmorch.planner.words import counted

MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Of one guest, as reserved for it: thousandths of CPUs, its memory, and QEMU's own beside."""

    millicpus: int
    guest_bytes: int
    qemu_bytes: int

    @property
    def memory_bytes(self) -> int:
        return self.guest_bytes + self.qemu_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """By so many instances together, QEMU's own memory included."""

    instances: int = 0
    millicpus: int = 0
    memory_bytes: int = 0

    @classmethod
    def of(cls, need: Need, count: int = 1) -> Taken:
        return cls(
            instances=count,
            millicpus=need.millicpus * count,
            memory_bytes=need.memory_bytes * count,
        )

    def plus(self, other: Taken) -> Taken:
        return Taken(
            instances=self.instances + other.instances,
            millicpus=self.millicpus + other.millicpus,
            memory_bytes=self.memory_bytes + other.memory_bytes,
        )


def waiting_for_memory(need: Need, host: HostView, taken: Taken) -> str:
    free = max(0, host.instance_memory_bytes - taken.memory_bytes)
    return (
        f"waiting for memory: needs {needed_memory(need)}, {free // MIB} MiB of "
        f"{size(host.memory_bytes)} are free ({size(taken.memory_bytes)} reserved by "
        f"{counted(taken.instances, 'instance')}, {size(host.kept_memory_bytes)} kept for the host)"
    )


def waiting_for_cpus(need: Need, host: HostView, taken: Taken) -> str:
    free = max(0, host.millicpus - taken.millicpus)
    return (
        f"waiting for CPUs: needs {cpus(need.millicpus)}, {cpus(free)} of {cpus(host.millicpus)} "
        f"are free ({cpus(taken.millicpus)} reserved by {counted(taken.instances, 'instance')}; "
        f"{overcommitted(host)})"
    )


def waiting_for_disk(needed: int, host: HostView, promised: int, starts: int) -> str:
    free = max(0, host.instance_disk_bytes - promised)
    others = f", {size(promised)} promised to {counted(starts, 'start')}" if starts else ""
    return (
        f"waiting for disk: needs {_up(needed)} MiB, {free // MIB} MiB are free "
        f"({size(host.free_disk_bytes)} on the disk, {size(host.kept_disk_bytes)} kept for the "
        f"host{others})"
    )


def needed_memory(need: Need) -> str:
    qemu = _up(need.qemu_bytes)
    guest = _up(need.guest_bytes)
    return f"{guest + qemu} MiB ({guest} MiB + {qemu} MiB for QEMU)"


def overcommitted(host: HostView) -> str:
    return f"the host's {host.cpus}, each counted {host.cpu_overcommit:g} times"


def cpus(millicpus: int) -> str:
    return f"{millicpus / 1000:g}"


def size(count: int) -> str:
    """`512 MiB`, `7.6 GiB`."""
    return f"{count / GIB:.3g} GiB" if count >= GIB else f"{count // MIB} MiB"


def _up(count: int) -> int:
    return -(-count // MIB)
