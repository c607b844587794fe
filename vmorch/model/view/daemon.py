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
class AccelerationView:
    """`time_scale` is how much longer guests take than under KVM; `reason` says why KVM is used or
    is not."""

    acceleration: str
    time_scale: float
    reason: str
