"""Live progress with Rich, loaded only when standard error is a terminal."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from vmorch.cli.output import clean, duration

if TYPE_CHECKING:
    from vmorch.model.view.image import BuildLine
    from vmorch.model.view.instance import InstanceView
    from vmorch.model.view.stream import EventView

_OUTPUT_LINES = 6
_SETTLED = {"ready": "green", "failed": "red", "stopped": "dim", "paused": "dim", "sleeping": "dim"}


@dataclass(slots=True)
class _Step:
    """The step that a build is at."""

    line: BuildLine
    since: float
    output: deque[str] = field(default_factory=lambda: deque(maxlen=_OUTPUT_LINES))


class LiveReporter:
    """Finished steps scroll away above; the running step and the instances are redrawn below."""

    def __init__(self) -> None:
        self._steps: dict[str, _Step] = {}
        self._rows: list[InstanceView] = []
        self._started = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            console=self._console,
            get_renderable=self._drawn,
            refresh_per_second=8,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._steps.clear()
        self._live.__exit__(kind, error, traceback)

    def build(self, target: str, line: BuildLine) -> None:
        if line.state == "started":
            self._steps[target] = _Step(line, time.monotonic())
            return
        if line.state == "output":
            if step := self._steps.get(target):
                step.output.append(clean(line.text))
            return
        self._steps.pop(target, None)
        style = {"cached": "dim", "done": "green"}.get(line.state, "red")
        word = "CACHED" if line.state == "cached" else f"{line.seconds:.1f}s"
        place = f"[{line.number}/{line.total}]"
        self._console.print(
            Text(f"{target} {place} {clean(line.step)}  "), Text(word, style=style), end="\n"
        )

    def instances(self, rows: list[InstanceView]) -> None:
        self._rows = rows

    def event(self, event: EventView) -> None:
        subject = event.instance or event.environment
        self._console.print(Text(clean(f"{subject}: {event.message}"), style="yellow"))

    def _drawn(self) -> RenderableType:
        parts: list[RenderableType] = []
        for target, step in self._steps.items():
            line = step.line
            taken = duration(time.monotonic() - step.since)
            text = f"{target} [{line.number}/{line.total}] {clean(line.step)}  {taken}"
            parts.append(Spinner("dots", Text(text)))
            parts += [Text(f"    {output}", style="dim", no_wrap=True) for output in step.output]
        if self._rows:
            parts.append(self._table())
        return Group(*parts)

    def _table(self) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        elapsed = duration(time.monotonic() - self._started)
        for row in self._rows:
            style = _SETTLED.get(row.state, "cyan")
            table.add_row(
                row.instance, Text(row.state, style=style), elapsed, Text(clean(row.reason))
            )
        return table
