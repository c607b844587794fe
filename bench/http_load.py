"""HTTP load by wrk, which holds a number of requests in flight: starts it, reads what it says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from bench.load_shapes import Generator, Outcome

_RATE = re.compile(r"^Requests/sec: +([0-9.]+)$", re.MULTILINE)
_P99 = re.compile(r"^ +99% +([0-9.]+)(us|ms|s)$", re.MULTILINE)
_REQUESTS = re.compile(r"^ +([0-9]+) requests in ", re.MULTILINE)
_REFUSED = re.compile(r"^ +Non-2xx or 3xx responses: ([0-9]+)$", re.MULTILINE)
_SOCKETS = re.compile(r"^ +Socket errors: (.+)$", re.MULTILINE)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one run came to. `failed` counts answers that are no 2xx or 3xx, connections that
    could not be made or broke, and requests without an answer within wrk's 2 s."""

    per_second: float
    p99_seconds: float
    requests: int
    failed: int


def start(url: str, *, host: str, connections: int, seconds: int) -> subprocess.Popen[str]:
    """A closed loop: each connection asks again as soon as it has its answer."""
    return subprocess.Popen(
        [
            *("wrk", "--latency", "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{seconds}s", "--header", f"Host: {host}", url),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def in_flight(url: str, host: str) -> Generator:
    """For shapes: so many requests in flight."""

    def begin(connections: int, seconds: int) -> Callable[[], Outcome]:
        process = start(url, host=host, connections=connections, seconds=seconds)

        def end() -> Outcome:
            load = result(process)
            return Outcome(requests=load.requests, failed=load.failed)

        return end

    return begin


def result(process: subprocess.Popen[str]) -> Load:
    """Wait for the end of a load.

    Raises:
        RuntimeError: wrk did not finish its run.
    """
    output, _ = process.communicate()
    return read(output)


def read(output: str) -> Load:
    """What wrk printed. Raises RuntimeError: it is no report of a run."""
    rate, p99, requests = (form.search(output) for form in (_RATE, _P99, _REQUESTS))
    if rate is None or p99 is None or requests is None:
        raise RuntimeError(f"wrk did not finish: {output}")
    refused, sockets = _REFUSED.search(output), _SOCKETS.search(output)
    broken = sum(map(int, re.findall(r"\d+", sockets[1]))) if sockets else 0
    return Load(
        per_second=float(rate[1]),
        p99_seconds=float(p99[1]) * _UNITS[p99[2]],
        requests=int(requests[1]),
        failed=broken + (int(refused[1]) if refused else 0),
    )
