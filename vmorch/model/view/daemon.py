"""What the daemon says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    version: str
    api: str
    installation: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityView:
    """The local certificate authority: its certificate as PEM, which is no secret, and the address
    at which routes answer by TLS, empty when they do not."""

    certificate: str
    https: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccelerationView:
    """`time_scale` is how much longer guests take than under KVM; `reason` says why KVM is used or
    is not."""

    acceleration: str
    time_scale: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityView:
    """`instances` are those that have room reserved. What is `kept` is for the host alone. `cpus`
    are the host's; of `cpus_for_instances`, that is `cpu_overcommit` times as many, some are
    reserved and the rest are free. `memory_bytes` are the host's, too: kept, reserved (with what
    QEMU takes beside each guest) or free. The disk is what the state directory's file system has
    left."""

    instances: int
    cpus: int
    cpu_overcommit: float
    cpus_for_instances: float
    cpus_reserved: float
    cpus_free: float
    memory_bytes: int
    memory_kept_bytes: int
    memory_reserved_bytes: int
    memory_free_bytes: int
    disk_left_bytes: int
    disk_kept_bytes: int
    disk_free_bytes: int
