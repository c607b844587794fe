"""What is measured, and what was seen in one look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vmorch.model.counters import GuestCounters, TrafficReport
from vmorch.model.use import HostUse

ServiceKey = tuple[str, str]
"""(environment, service)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An instance: `cpus` and `memory_bytes` are what its revision may use."""

    environment: str
    service: str
    name: str
    uuid: str
    ready: bool
    cpus: float
    memory_bytes: int

    @property
    def service_key(self) -> ServiceKey:
        return self.environment, self.service


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """All that was seen in one look that ended `at` (seconds since the epoch). `guests` (by uuid)
    or `traffic` None: they could not be asked. `guests_at` and `traffic_at` are when they answered,
    by a clock that nobody sets. `services` are the declared ones, each with how many instances it
    should have."""

    at: float
    subjects: Sequence[Subject]
    services: Mapping[ServiceKey, int] = field(default_factory=dict)
    guests: Mapping[str, GuestCounters] | None = None
    guests_at: float = 0.0
    traffic: TrafficReport | None = None
    traffic_at: float = 0.0
    host: HostUse | None = None
    failed: Sequence[str] = ()
