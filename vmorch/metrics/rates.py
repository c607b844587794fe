"""From two looks at counters to measures. Pure; the history calls it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vmorch.metrics.flow import Flow
from vmorch.metrics.subject import Subject
from vmorch.model.counters import GuestCounters, MemoryWeight
from vmorch.model.use import InstanceUse, ServiceUse, Totals

GAP_SECONDS = 30.0
"""Two looks further apart (a host that slept, a clock that was set) say nothing of a rate."""

Number = float | None


def passed(before: float, now: float) -> float | None:
    """Seconds between two looks, when there can be a rate of them."""
    return now - before if 0 < now - before <= GAP_SECONDS else None


def rate(before: Number, now: Number, seconds: float | None) -> float | None:
    """None where a counter is not known, or has fallen."""
    if before is None or now is None or seconds is None or now < before:
        return None
    return (now - before) / seconds


def guest_measure(
    subject: Subject,
    before: GuestCounters | None,
    now: GuestCounters,
    weight: MemoryWeight | None,
    *,
    at: float,
    seconds: float | None,
) -> InstanceUse:
    """`before` None: it was not seen in the look before. A process that is new since has counted
    from 0."""
    if before is None:
        seconds = None
    former = before if before is not None and before.life == now.life else _begun(now)
    cpus = rate(former.cpu_seconds, now.cpu_seconds, seconds)
    return InstanceUse(
        at=at,
        cpus=cpus,
        cpu_share=share(cpus, subject.cpus),
        throttled=rate(former.throttled_seconds, now.throttled_seconds, seconds),
        used_bytes=now.used_bytes,
        memory_share=share(now.used_bytes, now.usable_bytes),
        usable_bytes=now.usable_bytes,
        rss_bytes=now.rss_bytes,
        pss_bytes=weight.pss_bytes if weight else None,
        shared_bytes=weight.shared_bytes if weight else None,
        read_bytes=rate(former.read_bytes, now.read_bytes, seconds),
        written_bytes=rate(former.written_bytes, now.written_bytes, seconds),
        received_bytes=rate(former.received_bytes, now.received_bytes, seconds),
        sent_bytes=rate(former.sent_bytes, now.sent_bytes, seconds),
    )


def _begun(now: GuestCounters) -> GuestCounters:
    """What a process had counted when it began."""
    return GuestCounters(
        life=now.life,
        cpu_seconds=0.0,
        throttled_seconds=0.0,
        read_bytes=0,
        written_bytes=0,
        received_bytes=0,
        sent_bytes=0,
    )


def with_flow(measure: InstanceUse, flow: Flow, seconds: float | None) -> InstanceUse:
    return replace(
        measure,
        sessions=flow.sessions,
        connections=rate(0, flow.connections, seconds),
        requests=rate(0, flow.requests, seconds),
        errors=rate(0, flow.errors, seconds),
        response_seconds=flow.response_seconds,
        slowest_seconds=flow.slowest_seconds,
    )


def service_measure(
    measures: Sequence[tuple[Subject, InstanceUse]],
    flow: Flow | None,
    *,
    at: float,
    seconds: float | None,
) -> ServiceUse:
    """`flow` None: the proxy does not know the service, or was not to be asked."""
    every = [measure for _, measure in measures]
    ready = [measure for subject, measure in measures if subject.ready]
    return ServiceUse(
        at=at,
        instances=len(every),
        ready=len(ready),
        cpus=total(m.cpus for m in every),
        cpu_share=mean(m.cpu_share for m in ready),
        cpu_told=sum(m.cpu_share is not None for m in ready),
        memory_share=mean(m.memory_share for m in ready),
        memory_told=sum(m.memory_share is not None for m in ready),
        rss_bytes=total(m.rss_bytes for m in every),
        pss_bytes=total(m.pss_bytes for m in every),
        shared_bytes=total(m.shared_bytes for m in every),
        sessions=flow.sessions + flow.queued if flow else None,
        queued=flow.queued if flow else None,
        connections=rate(0, flow.connections, seconds) if flow else None,
        requests=rate(0, flow.requests, seconds) if flow else None,
        errors=rate(0, flow.errors, seconds) if flow else None,
        response_seconds=flow.response_seconds if flow else None,
    )


def spent(totals: Totals, subject: Subject, measure: InstanceUse, seconds: float) -> Totals:
    """What was used in all, `seconds` later, but for requests: those of a service are more than
    what its instances answered."""
    held = measure.rss_bytes if measure.pss_bytes is None else measure.pss_bytes
    declared = subject.memory_bytes if measure.rss_bytes is not None else 0
    return Totals(
        cpu_seconds=totals.cpu_seconds + seconds * (measure.cpus or 0),
        throttled_seconds=totals.throttled_seconds + seconds * (measure.throttled or 0),
        read_bytes=totals.read_bytes + seconds * (measure.read_bytes or 0),
        written_bytes=totals.written_bytes + seconds * (measure.written_bytes or 0),
        received_bytes=totals.received_bytes + seconds * (measure.received_bytes or 0),
        sent_bytes=totals.sent_bytes + seconds * (measure.sent_bytes or 0),
        connections=totals.connections,
        requests=totals.requests,
        errors=totals.errors,
        held_byte_seconds=totals.held_byte_seconds + seconds * (held or 0),
        declared_byte_seconds=totals.declared_byte_seconds + seconds * declared,
    )


def with_requests(totals: Totals, flow: Flow) -> Totals:
    return replace(
        totals,
        connections=totals.connections + flow.connections,
        requests=totals.requests + flow.requests,
        errors=totals.errors + flow.errors,
    )


def share(part: Number, whole: Number) -> float | None:
    return None if part is None or not whole else part / whole


def total(values: Iterable[Number]) -> float | None:
    """Of those that are known; None when none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def mean(values: Iterable[Number]) -> float | None:
    """Of those that are known; None when none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
