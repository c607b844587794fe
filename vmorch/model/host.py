"""How large the host is, and how much of it instances may have."""

from __future__ import annotations

from dataclasses import dataclass

from vmorch.model.guest import Acceleration


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """`cpus` are logical ones; of each, `cpu_overcommit` may be reserved. `free_disk_bytes` is what
    the disk of the state directory has left. What is `kept` is for the host alone."""

    cpus: int
    cpu_overcommit: float
    memory_bytes: int
    kept_memory_bytes: int
    free_disk_bytes: int
    kept_disk_bytes: int
    acceleration: Acceleration

    @property
    def millicpus(self) -> int:
        """Thousandths of CPUs for instances; whole numbers, so that sums are exact."""
        return int(self.cpus * self.cpu_overcommit * 1000)

    @property
    def instance_memory_bytes(self) -> int:
        """For instances and what QEMU takes beside each."""
        return max(0, self.memory_bytes - self.kept_memory_bytes)

    @property
    def instance_disk_bytes(self) -> int:
        return max(0, self.free_disk_bytes - self.kept_disk_bytes)


BOUNDLESS = HostView(
    cpus=2**20,
    cpu_overcommit=1.0,
    memory_bytes=2**60,
    kept_memory_bytes=0,
    free_disk_bytes=2**60,
    kept_disk_bytes=0,
    acceleration=Acceleration.KVM,
)
"""Bounds nothing: for whatever is not about capacity."""
