"""What HAProxy's answers have in common: lines, tables, the process that gave them. Pure.

Only a line feed ends a line. A guest has a say in what `show stat` tells of its check, and may put
there what else Unicode ends lines with (a form feed, U+0085, U+2028): then `splitlines` would take
what follows for a line of HAProxy's, about any service.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vmorch.errors import ProxyError

_PID = re.compile(r"^Pid: (\d+)$", re.MULTILINE)


def lines(text: str) -> list[str]:
    return text.split("\n")


def read_pid(text: str) -> int:
    """The worker's process id, from its answer to `show info`, whatever follows that.

    Raises:
        ProxyError: there is none.
    """
    pid = _PID.search(text)
    if pid is None:
        raise ProxyError("HAProxy's answer to 'show info' names no process.", retryable=True)
    return int(pid[1])


@dataclass(frozen=True, slots=True)
class Table:
    """`at` says which column is where in each of the `rows`."""

    at: Mapping[str, int]
    rows: Iterator[list[str]]


def read_table(text: str) -> Table:
    """The answer to `show stat`, wherever it begins in `text`; an empty line ends it.

    Raises:
        ProxyError: it is not there, or not whole; of a row, when that is read.
    """
    _, begun, table = text.partition("# pxname,")
    if not begun or not table.endswith("\n\n"):
        raise ProxyError("HAProxy's answer to 'show stat' is not whole.", retryable=True)
    header, *rest = lines(table.removesuffix("\n\n"))
    names = ["pxname", *header.split(",")]
    at = {name: number for number, name in enumerate(names)}
    return Table(at, (_row(line, len(names)) for line in rest))


def _row(line: str, width: int) -> list[str]:
    # Only a check's own words may need quotes; the reader of them all is four times slower.
    row = next(csv.reader([line])) if '"' in line else line.split(",")
    if len(row) != width:
        raise ProxyError("HAProxy's answer to 'show stat' is not whole.", retryable=True)
    return row
