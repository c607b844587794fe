"""Measures as rows of a table, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from vmorch.cli.output import size

if TYPE_CHECKING:
    from vmorch.model.use import HostUse, InstanceUse, Latency
    from vmorch.model.view.measure import MeasuredInstance, MeasuredService

INSTANCE_HEADER = (
    "INSTANCE",
    "CPU",
    "CAP%",
    "THROTTLED",
    "MEMORY",
    "RSS",
    "PSS",
    "READ/s",
    "WRITE/s",
    "RECV/s",
    "SENT/s",
    "REQ/s",
    "ERR/s",
    "MEAN",
    "OPEN",
)
SERVICE_HEADER = (
    "SERVICE",
    "READY",
    "CPU",
    "CAP%",
    "MEMORY",
    "PSS",
    "SHARED",
    "REQ/s",
    "ERR/s",
    "MEAN",
    "P50",
    "P95",
    "P99",
    "OPEN",
    "QUEUED",
    "GB-HOURS",
    "DECLARED%",
)
STATS_HEADER = ("CPU", "CAP%", "USED", "REQ/s")
UNKNOWN = "-"
_GB_HOUR = 1e9 * 3600

Row = TypeVar("Row", "MeasuredInstance", "MeasuredService")


@dataclass(frozen=True, slots=True)
class Sorting:
    """By `value` the greatest comes first; without one the order is as it was. The first letter of
    `word` chooses it where a single key does."""

    word: str
    value: Callable[[Any], float | None] | None


BY_NAME = "name"
SORTS: Mapping[str, Sorting] = {
    BY_NAME: Sorting("name", None),
    "cpu": Sorting("cpu", lambda row: row.now.cpus),
    "memory": Sorting("memory", lambda row: row.now.rss_bytes),
    "requests": Sorting("requests", lambda row: row.now.requests),
    "errors": Sorting("errors", lambda row: row.now.errors),
    "response": Sorting("latency", lambda row: row.now.response_seconds),
    "open": Sorting("open", lambda row: row.now.sessions),
}
SORT_KEYS = {sorting.word[0]: name for name, sorting in SORTS.items()}
SORT_HELP = " ".join(f"{s.word[0]}({s.word[1:]})" for s in SORTS.values())


def ordered(rows: Sequence[Row], sort: str) -> list[Row]:
    """What is not known comes last; equal ones stay as they were."""
    value = SORTS[sort].value
    if value is None:
        return list(rows)
    return sorted(rows, key=lambda row: _descending(value(row)))


def _descending(value: float | None) -> tuple[bool, float]:
    return value is None, -(value or 0.0)


def instance_cells(row: MeasuredInstance) -> list[str]:
    now = row.now
    return [
        row.instance,
        _number(now.cpus, ".2f"),
        _number(now.cpu_share, ".0%"),
        _number(now.throttled, ".0%"),
        _part(now.used_bytes, now.memory_share),
        _size(now.rss_bytes),
        _size(now.pss_bytes),
        _size(now.read_bytes),
        _size(now.written_bytes),
        _size(now.received_bytes),
        _size(now.sent_bytes),
        _number(now.requests, ".1f"),
        _number(now.errors, ".1f"),
        _time(now.response_seconds),
        _number(now.sessions, ".0f"),
    ]


def service_cells(row: MeasuredService) -> list[str]:
    now, totals = row.now, row.totals
    held, declared = totals.held_byte_seconds, totals.declared_byte_seconds
    return [
        row.service,
        f"{now.ready:.0f}/{now.instances:.0f}",
        _number(now.cpus, ".2f"),
        _number(now.cpu_share, ".0%"),
        _number(now.memory_share, ".0%"),
        _size(now.pss_bytes),
        _size(now.shared_bytes),
        _number(now.requests, ".1f"),
        _number(now.errors, ".1f"),
        _time(now.response_seconds),
        *_latency_cells(row.latency),
        _number(now.sessions, ".0f"),
        _number(now.queued, ".0f"),
        f"{held / _GB_HOUR:.3f}",
        _number(held / declared if declared else None, ".0%"),
    ]


def _latency_cells(latency: Latency | None) -> list[str]:
    if latency is None:
        return [UNKNOWN] * 3
    return [_time(s) for s in (latency.p50_seconds, latency.p95_seconds, latency.p99_seconds)]


def stats_cells(now: InstanceUse | None) -> list[str]:
    if now is None:
        return [UNKNOWN] * len(STATS_HEADER)
    return [
        _number(now.cpus, ".2f"),
        _number(now.cpu_share, ".0%"),
        _part(now.used_bytes, now.memory_share),
        _number(now.requests, ".1f"),
    ]


def host_line(host: HostUse | None) -> str:
    if host is None:
        return "Nothing has been measured yet."
    used = size(host.memory_bytes - host.available_bytes)
    return (
        f"host: {_number(host.busy_cpus, '.2f')} of {host.cpus:.0f} cpus busy, {used} of "
        f"{size(host.memory_bytes)} memory in use, {size(host.merged_bytes)} saved by merged pages"
    )


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def _size(value: float | None) -> str:
    return UNKNOWN if value is None else size(round(value))


def _part(value: float | None, share: float | None) -> str:
    return UNKNOWN if value is None else f"{size(round(value))} {_number(share, '.0%')}"


def _time(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{seconds * 1000:.0f}ms"
