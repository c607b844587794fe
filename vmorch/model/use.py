"""What instances, services and the host use, made of counters: measures, tick by tick.

Rates are per second of the time since the sample before. None: not known, which is no zero; who
decides on measures must not take it for one. All are floats, counts too: in a history each is the
mean of a step.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceUse:
    """One instance over one tick that ended `at` (seconds since the epoch).

    `cpus` are cores in use, `cpu_share` the same as a part of its cap. `throttled` is the time for
    which the cap held its threads back, per second (several threads: more than 1).
    `memory_share` is `used_bytes` of `usable_bytes`, as the guest sees it. `requests`, `errors` and
    `connections` are per second.
    """

    at: float
    cpus: float | None = None
    cpu_share: float | None = None
    throttled: float | None = None
    used_bytes: float | None = None
    usable_bytes: float | None = None
    memory_share: float | None = None
    rss_bytes: float | None = None
    pss_bytes: float | None = None
    shared_bytes: float | None = None
    read_bytes: float | None = None
    written_bytes: float | None = None
    received_bytes: float | None = None
    sent_bytes: float | None = None
    sessions: float | None = None
    connections: float | None = None
    requests: float | None = None
    errors: float | None = None
    response_seconds: float | None = None
    slowest_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUse:
    """One service over one tick that ended `at`.

    `sessions` are requests (TCP: connections) in flight, those that wait included; `queued` only
    those that wait. `cpu_share` and `memory_share` are means over those ready instances of which
    they are known, `cpu_told` and `memory_told` in number. `errors` include the 503s that the
    proxy gave for want of a ready instance.
    """

    at: float
    instances: float
    ready: float
    cpus: float | None = None
    cpu_share: float | None = None
    cpu_told: float = 0
    memory_share: float | None = None
    memory_told: float = 0
    rss_bytes: float | None = None
    pss_bytes: float | None = None
    shared_bytes: float | None = None
    sessions: float | None = None
    queued: float | None = None
    connections: float | None = None
    requests: float | None = None
    errors: float | None = None
    response_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Of the last `answers` of a service in the access log: within how many seconds, from the whole
    request (its wait for an instance included) to the first byte of the answer, 50, 95 and 99 of a
    hundred came."""

    answers: int
    p50_seconds: float
    p95_seconds: float
    p99_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUse:
    """`busy_cpus` are cores in use by anybody. `merged_bytes` is what the kernel saves by merging
    equal pages (KSM)."""

    at: float
    cpus: float
    busy_cpus: float | None
    memory_bytes: float
    available_bytes: float
    merged_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over one service's or one instance's life in this daemon's: they begin at 0 with it.

    `held_byte_seconds` is memory (PSS, where it is not known yet RSS) times the time for which it
    was held, `declared_byte_seconds` the same of the memory that the service's file asks for.
    """

    cpu_seconds: float = 0.0
    throttled_seconds: float = 0.0
    read_bytes: float = 0.0
    written_bytes: float = 0.0
    received_bytes: float = 0.0
    sent_bytes: float = 0.0
    connections: float = 0.0
    requests: float = 0.0
    errors: float = 0.0
    held_byte_seconds: float = 0.0
    declared_byte_seconds: float = 0.0
