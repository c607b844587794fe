"""What hypervisor and proxy have counted so far, as they say it: raw, rising, reset at any time.

`vmorch.metrics` makes rates and sums of them. None stands for what nobody can tell just now, which
is something other than zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MEAN_OF = 1024
"""Answers, at most, of which the proxy tells the mean time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryWeight:
    """What a guest's memory weighs on the host: `pss_bytes` is its fair part of all pages that
    it has (a page shared by three counts a third), `shared_bytes` those that others have, too."""

    pss_bytes: int
    shared_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCounters:
    """Of one guest since its process began; `life` tells that process from the next one.

    `throttled_seconds` is how long its cap has held its threads back, summed over the host's
    processors. `used_bytes` and `usable_bytes` are the guest's own view of its memory (what is not
    available, and all of it), some seconds old. Disk bytes are those that went to and from the
    host's storage; network bytes those that the guest received and sent.
    """

    life: int
    cpu_seconds: float | None = None
    throttled_seconds: float | None = None
    rss_bytes: int | None = None
    weight: MemoryWeight | None = None
    used_bytes: int | None = None
    usable_bytes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    received_bytes: int | None = None
    sent_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficCounters:
    """Of one server of the proxy, or of a whole backend. `sessions` are open now, `queued` wait
    now for a server, apart from them; the others count since `TrafficReport.life` began. `requests`
    are HTTP's answers (0 where the proxy passes bytes on unread), `errors` its answers of 5xx,
    failed connections and broken answers. `response_seconds` is the mean of the last MEAN_OF
    answers, from the whole request (its wait for a server included) to the first byte of the
    answer, `slowest_seconds` the slowest first byte since `life` began, from the server's
    connection on.
    """

    sessions: int = 0
    queued: int = 0
    connections: int = 0
    requests: int = 0
    errors: int = 0
    response_seconds: float | None = None
    slowest_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficReport:
    """By (backend, server), and by backend. `life` changes when all of them begin anew."""

    life: int = 0
    servers: dict[tuple[str, str], TrafficCounters] = field(default_factory=dict)
    backends: dict[str, TrafficCounters] = field(default_factory=dict)
