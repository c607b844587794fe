"""What HAProxy has counted, from its answer to `show info` and `show stat`. Pure.

HAProxy 2.6 Management Guide, 9.1: the columns. It keeps no distribution of times, only the means of
the last 1,024 answers and the greatest: a quantile cannot be had from it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from vmorch.errors import ProxyError
from vmorch.model.counters import TrafficCounters, TrafficReport
from vmorch.proxy.answers import Table, read_pid, read_table
from vmorch.proxy.holding import GATE

_Key = TypeVar("_Key", str, tuple[str, str])

_ANSWERS = ("hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other")
# A failed connection becomes the backend's 503, and a broken answer its 502: not counted twice.
_SERVER_ERRORS = ("hrsp_5xx", "econ", "eresp")
_HTTP_ERRORS = ("hrsp_5xx",)
# Not `ttime`: it begins when the client's connection was last idle, so that a browser's pause
# between two requests is in it.
_TO_FIRST_BYTE = ("qtime", "ctime", "rtime")
_BACKEND = "BACKEND"


def read_counters(text: str) -> TrafficReport:
    """The answers to `show info` and `show stat`, one after the other.

    Raises:
        ProxyError: that is not what HAProxy answers, or not all of it.
    """
    return read_traffic(text, read_pid(text))


def read_traffic(text: str, life: int = 0) -> TrafficReport:
    """The answer to `show stat` of the process `life`.

    Raises:
        ProxyError: that is not what HAProxy answers, or not all of it.
    """
    try:
        return _traffic(read_table(text), life)
    except (KeyError, ValueError, csv.Error) as error:
        raise ProxyError(
            "HAProxy says what it has counted in a way that vmorch does not know.", retryable=True
        ) from error


def _traffic(table: Table, life: int) -> TrafficReport:
    """Read in each tick, a line per server. A backend's line follows those of its servers."""
    report, at = TrafficReport(life=life), table.at
    served = handed_on = 0
    for row in table.rows:
        backend, server = row[0], row[at["svname"]]
        if server == _BACKEND:
            report.backends[backend] = _backend(row, at, served=served, handed_on=handed_on)
            served = handed_on = 0
        elif server == GATE:
            handed_on += _sum(row, at, ("scur",))
        else:
            counters = _counters(row, at, _SERVER_ERRORS)
            report.servers[backend, server] = counters
            served += counters.sessions
    return report


def _backend(
    row: Sequence[str], at: Mapping[str, int], *, served: int, handed_on: int
) -> TrafficCounters:
    """`served` is with its servers, `handed_on` with the next worker, which counts it as well. No
    queue of HAProxy's own is used: what waits (`hold.lua`) is in the backend and with no server.
    Where there is a server, that is an answer whose client has not taken its end yet."""
    http = row[at["mode"]] == "http"
    counters = _counters(row, at, _HTTP_ERRORS if http else _SERVER_ERRORS)
    sessions = max(served, counters.sessions - handed_on)
    waiting = 0 if _sum(row, at, ("act", "bck")) else sessions - served
    return replace(counters, sessions=sessions - waiting, queued=waiting)


def _counters(row: Sequence[str], at: Mapping[str, int], errors: Sequence[str]) -> TrafficCounters:
    requests = _sum(row, at, _ANSWERS)
    return TrafficCounters(
        sessions=_sum(row, at, ("scur",)),
        connections=_sum(row, at, ("stot",)),
        requests=requests,
        errors=_sum(row, at, errors),
        response_seconds=_sum(row, at, _TO_FIRST_BYTE) / 1000 if requests else None,
        slowest_seconds=_sum(row, at, ("rtime_max",)) / 1000 if requests else None,
    )


def _sum(row: Sequence[str], at: Mapping[str, int], names: Sequence[str]) -> int:
    """A column without a value is empty."""
    return sum(int(row[at[name]] or 0) for name in names)


def with_leaving(report: TrafficReport, leaving: Iterable[TrafficReport]) -> TrafficReport:
    """`report`, and the sessions that workers left behind by a reload still have. What they count
    is left out: it goes with them, and would look like counters that fall."""
    servers, backends = dict(report.servers), dict(report.backends)
    for other in leaving:
        _add_sessions(servers, other.servers)
        _add_sessions(backends, other.backends)
    return replace(report, servers=servers, backends=backends)


def _add_sessions(
    found: dict[_Key, TrafficCounters], others: Mapping[_Key, TrafficCounters]
) -> None:
    """What waits in a leaving worker is on its way to the next one, by its gate."""
    for key in found.keys() & others.keys():
        more = others[key].sessions + others[key].queued
        found[key] = replace(found[key], sessions=found[key].sessions + more)
