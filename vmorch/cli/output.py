"""What leaves the program: tables, JSON, and text from guests that a terminal may see."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vmorch.model.view.instance import InstanceView

# CSI; OSC, DCS, SOS, PM and APC strings up to BEL or ST; any other escape; control characters
# (C0 without tab, DEL, C1). A guest's text could otherwise retitle, retype or recolour.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)


def clean(text: str) -> str:
    """One line without anything that a terminal would obey. Of a line that was overwritten by
    carriage returns only the last state is kept."""
    if "\r" in text:
        text = next((part for part in reversed(text.split("\r")) if part), "")
    return _ESCAPES.sub("", text)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def print_json_line(value: Any) -> None:
    """For streams: one object a line."""
    print(json.dumps(value, ensure_ascii=False, default=_plain), flush=True)


def _plain(value: Any) -> Any:
    fields = getattr(value, "__dataclass_fields__", None)
    return str(value) if fields is None else {name: getattr(value, name) for name in fields}


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for line in table_lines(header, rows):
        print(line)


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [list(header), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def say(text: str) -> None:
    """A line for people, beside the data."""
    print(clean(text), file=sys.stderr, flush=True)


def size(count: float) -> str:
    for unit in ("B", "K", "M", "G"):
        if count < 1024 or unit == "G":
            break
        count /= 1024
    return f"{count:.0f}{unit}" if count >= 10 or count == int(count) else f"{count:.1f}{unit}"


def duration(seconds: float) -> str:
    """The two largest units, such as 3m 20s."""
    whole = int(max(0.0, seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def age(time: float | None, now: float) -> str:
    return "-" if time is None else duration(now - time)


INSTANCE_HEADER = (
    "INSTANCE",
    "STATE",
    "ADDRESS",
    "REVISION",
    "CPUS",
    "MEMORY",
    "START",
    "UP",
    "REASON",
)


def instance_row(view: InstanceView, now: float) -> list[str]:
    return [
        view.instance,
        view.state,
        view.address,
        str(view.revision),
        f"{view.cpus:.2f}",
        size(view.memory_bytes),
        view.start,
        age(view.started_at, now),
        view.reason,
    ]
