"""What HAProxy has counted, from its answer to `show info` and `show stat`. Pure.

HAProxy 2.6 Management Guide, 9.1: the columns. It keeps no distribution of times, only the mean of
the last 1,024 answers and the greatest: a quantile cannot be had from it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence

from vmorch.errors import ProxyError
from vmorch.model.counters import TrafficCounters, TrafficReport

_PID = re.compile(r"^Pid: (\d+)$", re.MULTILINE)
_ANSWERS = ("hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other")
# A failed connection becomes the backend's 503, and a broken answer its 502: not counted twice.
_SERVER_ERRORS = ("hrsp_5xx", "econ", "eresp")
_HTTP_ERRORS = ("hrsp_5xx",)
_BACKEND = "BACKEND"


def read_counters(text: str) -> TrafficReport:
    """Read in each tick, a line per server: the columns are looked up once.

    Raises:
        ProxyError: that is not what HAProxy answers.
    """
    pid = _PID.search(text)
    _, found, table = text.partition("# pxname,")
    if pid is None or not found:
        raise ProxyError("HAProxy does not say what it has counted.", retryable=True)
    header, *lines = table.splitlines()
    at = {name: number for number, name in enumerate(header.split(","), start=1)}
    report = TrafficReport(life=int(pid[1]))
    for line in lines:
        # Only a check's own words may need quotes; the reader of them all is four times slower.
        row = next(csv.reader([line])) if '"' in line else line.split(",")
        if len(row) < len(at):
            continue
        backend, server = row[0], row[at["svname"]]
        if server == _BACKEND:
            http = row[at["mode"]] == "http"
            errors = _HTTP_ERRORS if http else _SERVER_ERRORS
            report.backends[backend] = _counters(row, at, errors)
        else:
            report.servers[backend, server] = _counters(row, at, _SERVER_ERRORS)
    return report


def _counters(row: Sequence[str], at: Mapping[str, int], errors: Sequence[str]) -> TrafficCounters:
    requests = _sum(row, at, _ANSWERS)
    return TrafficCounters(
        sessions=_sum(row, at, ("scur",)),
        queued=_sum(row, at, ("qcur",)),
        connections=_sum(row, at, ("stot",)),
        requests=requests,
        errors=_sum(row, at, errors),
        response_seconds=_sum(row, at, ("ttime",)) / 1000 if requests else None,
        slowest_seconds=_sum(row, at, ("rtime_max",)) / 1000 if requests else None,
    )


def _sum(row: Sequence[str], at: Mapping[str, int], names: Sequence[str]) -> int:
    """A column without a value is empty."""
    return sum(int(row[at[name]] or 0) for name in names)
