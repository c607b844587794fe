"""Shows builds and boots on standard error: plain lines, or live on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from vmorch.cli.output import duration, say

if TYPE_CHECKING:
    from vmorch.model.view.image import BuildLine
    from vmorch.model.view.instance import InstanceView
    from vmorch.model.view.stream import EventView


class Reporter(Protocol):
    def build(self, target: str, line: BuildLine) -> None:
        """One line of the story of `target`, a service or an image."""
        ...

    def instances(self, rows: list[InstanceView]) -> None:
        """All instances as they are now."""
        ...

    def event(self, event: EventView) -> None: ...


class PlainReporter:
    """One line for each change; nothing is ever overwritten."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[str, str]] = {}
        self._started = time.monotonic()

    def build(self, target: str, line: BuildLine) -> None:
        if text := build_text(line):
            say(f"{target} {text}")

    def instances(self, rows: list[InstanceView]) -> None:
        elapsed = duration(time.monotonic() - self._started)
        for row in rows:
            seen = (row.state, row.reason)
            if self._shown.get(row.instance) != seen:
                self._shown[row.instance] = seen
                reason = f": {row.reason}" if row.reason else ""
                say(f"{row.instance} {row.state} after {elapsed}{reason}")
        for gone in self._shown.keys() - {row.instance for row in rows}:
            del self._shown[gone]
            say(f"{gone} gone after {elapsed}")

    def event(self, event: EventView) -> None:
        say(f"{event.instance or event.environment}: {event.message}")


def build_text(line: BuildLine) -> str:
    place = f"[{line.number}/{line.total}]"
    match line.state:
        case "started":
            return f"{place} {line.step}"
        case "output":
            return f"{place} | {line.text}" if line.text.strip() else ""
        case "cached":
            return f"{place} CACHED {line.step}"
        case "done":
            return f"{place} DONE {line.seconds:.1f}s"
        case _:
            return f"{place} FAILED {line.step}"


class QuietReporter:
    def build(self, target: str, line: BuildLine) -> None: ...

    def instances(self, rows: list[InstanceView]) -> None: ...

    def event(self, event: EventView) -> None: ...


@contextmanager
def reporter(*, quiet: bool = False) -> Iterator[Reporter]:
    """Live where standard error is a terminal that can, plain elsewhere."""
    if quiet:
        yield QuietReporter()
    elif not sys.stderr.isatty() or _dumb():
        yield PlainReporter()
    else:
        from vmorch.cli.live import LiveReporter

        with LiveReporter() as live:
            yield live


def _dumb() -> bool:
    import os

    return os.environ.get("TERM", "dumb") == "dumb"
