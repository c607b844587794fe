"""A guest as seen from outside and from inside, and the acceleration that it runs under."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Acceleration(enum.StrEnum):
    KVM = "kvm"
    TCG = "tcg"

    @property
    def time_scale(self) -> float:
        """How much longer a guest needs for the same work; multiplies every guest time-out."""
        return 1.0 if self is Acceleration.KVM else 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AccelerationChoice:
    """What guests run under here, and why, as a clause."""

    acceleration: Acceleration
    reason: str


class GuestState(enum.StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    SHUTTING_DOWN = "shutting-down"
    CRASHED = "crashed"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestReport:
    """What `vmorch-identity status` says. `service`: active, activating, failed, exited, none.
    `cloud_init`: off, running, done, error; `cloud_init_detail` is its own words."""

    instance_id: str
    service: str
    cloud_init: str
    cloud_init_detail: str = ""
    exit_code: int | None = None
