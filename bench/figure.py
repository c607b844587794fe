"""A figure, and how it is shown: a row for people, an object a line for programs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """`value` in `unit`; where it compares, `baseline` in the same unit and `ratio` of the two.
    `samples` are the single measurements behind `value`, in the order they were taken."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    samples: Sequence[float] = ()

    def row(self) -> str:
        baseline = f"{self.baseline:10.3f}" if self.baseline is not None else " " * 10
        ratio = f"{self.ratio:8.3f}" if self.ratio is not None else " " * 8
        count = f"{len(self.samples):3d}" if self.samples else "   "
        return f"{self.name:24} {self.value:10.3f} {self.unit:8} {baseline} {ratio} {count}"

    def line(self) -> str:
        return json.dumps(asdict(self))


HEADER = f"{'figure':24} {'value':>10} {'unit':8} {'baseline':>10} {'ratio':>8}   n"


def compared(
    name: str,
    ours: Callable[[], float],
    baseline: Callable[[], float],
    *,
    rounds: int,
    unit: str = "s",
) -> Figure:
    """Measure both alternately, `rounds` times, so that what else the machine does hits both;
    the figure is the ratio of the medians."""
    mine, theirs = [], []
    for number in range(rounds):
        pair = [(mine, ours), (theirs, baseline)]
        for samples, measure in pair if number % 2 == 0 else reversed(pair):
            samples.append(measure())
    value, base = statistics.median(mine), statistics.median(theirs)
    return Figure(
        name=name, value=value, unit=unit, baseline=base, ratio=value / base, samples=mine
    )
