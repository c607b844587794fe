"""Looks as the tests of measures make them."""

from __future__ import annotations

from typing import Any

from vmorch.metrics.subject import Sample, Subject
from vmorch.model.counters import GuestCounters, TrafficCounters, TrafficReport

MIB = 1024**2


def subject(ordinal: int = 1, **fields: Any) -> Subject:
    plain: dict[str, Any] = {
        "environment": "shop",
        "service": "web",
        "name": f"web-{ordinal}",
        "uuid": f"uuid-{ordinal}",
        "ready": True,
        "cpus": 0.5,
        "memory_bytes": 100 * MIB,
    }
    return Subject(**{**plain, **fields})


def guest(cpu_seconds: float, *, life: int = 1, **fields: Any) -> GuestCounters:
    return GuestCounters(life=life, cpu_seconds=cpu_seconds, **fields)


def traffic(*, life: int = 7, http: TrafficCounters, instance: str = "web-1") -> TrafficReport:
    """One instance behind its service's route, which answered nothing by itself."""
    backend = "shop.web.80.http"
    return TrafficReport(life=life, servers={(backend, instance): http}, backends={backend: http})


def look(at: float, guest_counters: GuestCounters | None = None, **fields: Any) -> Sample:
    """Of the first subject alone, and all at once, unless `fields` says otherwise."""
    plain: dict[str, Any] = {
        "subjects": [subject()],
        "services": {("shop", "web"): 3},
        "guests": {"uuid-1": guest_counters} if guest_counters else {},
        "guests_at": at,
        "traffic_at": at,
    }
    return Sample(at=at, **{**plain, **fields})
