"""HTTP load by hey, which holds a number of requests a second: starts it, reads what it says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

from bench.load_shapes import Generator, Outcome

_FINISHED = re.compile(r"^ +Requests/sec:", re.MULTILINE)
_STATUS = re.compile(r"^ +\[([0-9]{3})\]\t([0-9]+) responses$", re.MULTILINE)
_ERRORS = re.compile(r"^ +\[([0-9]+)\]\t(?![0-9]+ responses$)", re.MULTILINE)
EACH_PER_SECOND = 2
"""What one of hey's workers asks. It waits for each answer: in half a second it must be there, or
the rate is not held."""


def rate(url: str, host: str) -> Generator:
    """For shapes: so many requests a second."""

    def begin(per_second: int, seconds: int) -> Callable[[], Outcome]:
        workers = -(-per_second // EACH_PER_SECOND)
        process = subprocess.Popen(
            [
                *("hey", "-z", f"{seconds}s", "-c", str(workers), "-q", f"{per_second / workers}"),
                *("-host", host, url),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        return lambda: read(process.communicate()[0])

    return begin


def read(output: str) -> Outcome:
    """What hey printed. Raises RuntimeError: it is no report of a run."""
    if not _FINISHED.search(output):
        raise RuntimeError(f"hey did not finish: {output}")
    answers = {int(status): int(count) for status, count in _STATUS.findall(output)}
    refused = sum(count for status, count in answers.items() if not 200 <= status < 400)
    broken = sum(map(int, _ERRORS.findall(output)))
    return Outcome(requests=sum(answers.values()) + broken, failed=refused + broken)
