"""From two looks at counters to measures. Pure; the history calls it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vmorch.metrics.flow import Flow
from vmorch.metrics.subject import Subject
from vmorch.model.counters import GuestCounters
from vmorch.model.use import InstanceUse, ServiceUse, Totals

GAP_SECONDS = 30.0
"""Two looks further apart say nothing of a rate: it was long ago that most of it happened."""

Number = float | None


@dataclass(frozen=True, slots=True)
class Rise:
    """By how much the counters of one guest have risen. None: one is not known, or has fallen."""

    cpu_seconds: Number = None
    throttled_seconds: Number = None
    read_bytes: Number = None
    written_bytes: Number = None
    received_bytes: Number = None
    sent_bytes: Number = None


def passed(before: float, now: float) -> float | None:
    """Seconds between two looks, when there can be a rate of them."""
    return now - before if 0 < now - before <= GAP_SECONDS else None


def risen(before: Number, now: Number) -> float | None:
    return None if before is None or now is None or now < before else now - before


def rate(rise: Number, seconds: float | None) -> float | None:
    return None if rise is None or seconds is None else rise / seconds


def guest_rise(before: GuestCounters | None, now: GuestCounters) -> Rise:
    """`before` None: it was never seen, so that nobody knows. A process that is new since has
    counted from 0."""
    if before is None:
        return Rise()
    former = before if before.life == now.life else _begun(now)
    return Rise(
        cpu_seconds=risen(former.cpu_seconds, now.cpu_seconds),
        throttled_seconds=risen(former.throttled_seconds, now.throttled_seconds),
        read_bytes=risen(former.read_bytes, now.read_bytes),
        written_bytes=risen(former.written_bytes, now.written_bytes),
        received_bytes=risen(former.received_bytes, now.received_bytes),
        sent_bytes=risen(former.sent_bytes, now.sent_bytes),
    )


def guest_measure(
    subject: Subject,
    now: GuestCounters,
    rise: Rise,
    *,
    at: float,
    seconds: float | None,
) -> InstanceUse:
    cpus, weight = rate(rise.cpu_seconds, seconds), now.weight
    return InstanceUse(
        at=at,
        cpus=cpus,
        cpu_share=share(cpus, subject.cpus),
        throttled=rate(rise.throttled_seconds, seconds),
        used_bytes=now.used_bytes,
        memory_share=share(now.used_bytes, now.usable_bytes),
        usable_bytes=now.usable_bytes,
        rss_bytes=now.rss_bytes,
        pss_bytes=weight.pss_bytes if weight else None,
        shared_bytes=weight.shared_bytes if weight else None,
        read_bytes=rate(rise.read_bytes, seconds),
        written_bytes=rate(rise.written_bytes, seconds),
        received_bytes=rate(rise.received_bytes, seconds),
        sent_bytes=rate(rise.sent_bytes, seconds),
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
        connections=rate(flow.connections, seconds),
        requests=rate(flow.requests, seconds),
        errors=rate(flow.errors, seconds),
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
        connections=rate(flow.connections, seconds) if flow else None,
        requests=rate(flow.requests, seconds) if flow else None,
        errors=rate(flow.errors, seconds) if flow else None,
        response_seconds=flow.response_seconds if flow else None,
    )


def spent(subject: Subject, rise: Rise, held: Number, seconds: float) -> Totals:
    """What one guest has used since it was last seen. It has `held` bytes of memory, and has had
    them for `seconds`."""
    return Totals(
        cpu_seconds=rise.cpu_seconds or 0.0,
        throttled_seconds=rise.throttled_seconds or 0.0,
        read_bytes=rise.read_bytes or 0.0,
        written_bytes=rise.written_bytes or 0.0,
        received_bytes=rise.received_bytes or 0.0,
        sent_bytes=rise.sent_bytes or 0.0,
        held_byte_seconds=seconds * (held or 0.0),
        declared_byte_seconds=seconds * (0 if held is None else subject.memory_bytes),
    )


def together(one: Totals, other: Totals) -> Totals:
    return Totals(
        cpu_seconds=one.cpu_seconds + other.cpu_seconds,
        throttled_seconds=one.throttled_seconds + other.throttled_seconds,
        read_bytes=one.read_bytes + other.read_bytes,
        written_bytes=one.written_bytes + other.written_bytes,
        received_bytes=one.received_bytes + other.received_bytes,
        sent_bytes=one.sent_bytes + other.sent_bytes,
        connections=one.connections + other.connections,
        requests=one.requests + other.requests,
        errors=one.errors + other.errors,
        held_byte_seconds=one.held_byte_seconds + other.held_byte_seconds,
        declared_byte_seconds=one.declared_byte_seconds + other.declared_byte_seconds,
    )


def with_requests(totals: Totals, flow: Flow) -> Totals:
    """Apart from the rest: those of a service are more than what its instances answered."""
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
