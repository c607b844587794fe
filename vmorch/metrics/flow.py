"""What went through the proxy between two looks, by instance and by service. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from vmorch.metrics.subject import ServiceKey
from vmorch.model.counters import MEAN_OF, TrafficCounters, TrafficReport
from vmorch.model.names import backend_owner

_NONE_YET = TrafficCounters()


@dataclass(slots=True)
class Flow:
    """`sessions` and `queued` are now, the counts were in between. `response_sum` is the mean time
    of each backend's last answers, times their number; `timed` is that of all."""

    sessions: int = 0
    queued: int = 0
    connections: int = 0
    requests: int = 0
    errors: int = 0
    response_sum: float = 0.0
    timed: int = 0
    slowest_seconds: float | None = None

    @property
    def response_seconds(self) -> float | None:
        return self.response_sum / self.timed if self.timed else None

    def add(self, before: TrafficCounters, now: TrafficCounters) -> None:
        self.sessions += now.sessions
        self.queued += now.queued
        self.connections += max(0, now.connections - before.connections)
        self.requests += max(0, now.requests - before.requests)
        self.errors += max(0, now.errors - before.errors)
        if now.response_seconds is not None:
            timed = min(now.requests, MEAN_OF)
            self.response_sum += timed * now.response_seconds
            self.timed += timed
        if now.slowest_seconds is not None:
            self.slowest_seconds = max(self.slowest_seconds or 0.0, now.slowest_seconds)


@dataclass(frozen=True, slots=True)
class Flows:
    """By (environment, instance) and by (environment, service)."""

    instances: Mapping[tuple[str, str], Flow] = field(default_factory=dict)
    services: Mapping[ServiceKey, Flow] = field(default_factory=dict)


def flows(before: TrafficReport, now: TrafficReport) -> Flows:
    """A report of another life, and a server that was not there, have counted from 0."""
    same = before.life == now.life
    instances: defaultdict[tuple[str, str], Flow] = defaultdict(Flow)
    services: defaultdict[ServiceKey, Flow] = defaultdict(Flow)
    for (backend, server), counters in now.servers.items():
        former = before.servers.get((backend, server), _NONE_YET) if same else _NONE_YET
        if (owner := backend_owner(backend)) is not None:
            instances[owner[0], server].add(former, counters)
    for backend, counters in now.backends.items():
        former = before.backends.get(backend, _NONE_YET) if same else _NONE_YET
        if (owner := backend_owner(backend)) is not None:
            services[owner].add(former, counters)
    return Flows(instances, services)
