"""What came of a step of load: figures, a table and a picture over time, and a trace for tests."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.load_shapes import Outcome, Shape, amount_at
from bench.picture import Line, Panel, picture
from bench.scaling import Decision
from vmorch.model.autoscale import AutoscaleSpec
from vmorch.model.use import ServiceUse

_ROOT = Path(__file__).parents[1]
TABLE = _ROOT / "docs/autoscaling/step.csv"
PICTURE = _ROOT / "docs/autoscaling/step.svg"
TRACE = _ROOT / "tests/unit/planner/autoscale/traces/step_guests.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One tick, `second` after the load began. `rps` are requests a second, `failed` those of
    them that have failed as far as the proxy knows."""

    second: float
    load: int
    desired: int
    ready: int
    in_flight: float
    rps: float
    failed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`began` is when the load did, whose second stage is the step; `wanted` how many instances
    the step is for. `ticks` reach back to when there was no load."""

    spec: AutoscaleSpec
    shape: Shape
    began: float
    wanted: int
    ticks: Sequence[ServiceUse]
    decisions: Sequence[Decision]
    ready_times: Sequence[float]
    outcome: Outcome

    @property
    def _rose(self) -> float:
        return self.began + self.shape[0].seconds

    @property
    def _fell(self) -> float:
        return self._rose + self.shape[1].seconds

    @property
    def decision_ticks(self) -> int:
        decided = next(one.at for one in self.decisions if one.at > self._rose)
        return sum(self._rose < tick.at <= decided for tick in self.ticks)

    @property
    def ready_seconds(self) -> float:
        """One was ready before."""
        later = [at for at in self.ready_times if at > self._rose]
        return later[self.wanted - 2] - self._rose

    @property
    def settled_seconds(self) -> float:
        alone = (tick.at for tick in self.ticks if tick.at > self._fell and tick.instances == 1)
        return next(alone) - self._fell

    def write(self) -> None:
        TABLE.parent.mkdir(exist_ok=True)
        rows = list(self._rows())
        with TABLE.open("w", newline="") as file:
            table = csv.DictWriter(file, Row.__slots__, lineterminator="\n")
            table.writeheader()
            table.writerows(map(asdict, rows))
        PICTURE.write_text(drawn(rows))
        TRACE.write_text(self._trace())

    def _rows(self) -> Iterator[Row]:
        for tick in self.ticks:
            if tick.at < self.began:
                continue
            second = tick.at - self.began
            yield Row(
                second=round(second, 1),
                load=amount_at(self.shape, second),
                desired=self._desired(tick),
                ready=round(tick.ready),
                in_flight=round(tick.sessions or 0, 1),
                rps=round(tick.requests or 0, 1),
                failed=round(tick.errors or 0, 1),
            )

    def _tick_of(self, decision: Decision) -> ServiceUse:
        """What it was decided on."""
        return next(tick for tick in reversed(self.ticks) if tick.at <= decision.at)

    def _desired(self, tick: ServiceUse) -> int:
        """Once it was decided on that tick."""
        held = [one.count for one in self.decisions if self._tick_of(one).at <= tick.at]
        return held[-1] if held else self.spec.min

    def _trace(self) -> str:
        """What the pure decision is made from, and what it was; times from the first tick on."""
        first = self.ticks[0].at
        ticks = [
            {
                "at": round(tick.at - first, 3),
                "instances": tick.instances,
                "ready": tick.ready,
                "sessions": tick.sessions,
            }
            for tick in self.ticks
        ]
        decisions = [
            {"at": round(self._tick_of(one).at - first, 3), "count": one.count}
            for one in self.decisions
        ]
        fields = ("min", "max", "concurrency", "stabilization_seconds", "window_seconds")
        spec = {name: getattr(self.spec, name) for name in fields}
        return (
            f'{{"autoscale": {json.dumps(spec)},\n'
            f'"decisions": {_lines(decisions)},\n"ticks": {_lines(ticks)}}}\n'
        )


def _lines(rows: Sequence[object]) -> str:
    """One a line, for differences to be read."""
    return "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]"


def drawn(rows: Sequence[Row]) -> str:
    def line(name: str, field: str, color: str, *, stepped: bool = False) -> Line:
        points = [(row.second, float(getattr(row, field))) for row in rows]
        return Line(name=name, color=color, points=points, stepped=stepped)

    panels = [
        Panel(
            title="requests in flight",
            lines=[
                line("load", "load", "#999999", stepped=True),
                line("measured", "in_flight", "#1f77b4"),
            ],
        ),
        Panel(
            title="instances",
            lines=[
                line("desired", "desired", "#d95f02", stepped=True),
                line("ready", "ready", "#1b9e77", stepped=True),
            ],
        ),
        Panel(
            title="requests per second",
            lines=[line("answered", "rps", "#1f77b4"), line("failed", "failed", "#cc0000")],
        ),
    ]
    return picture(panels, seconds=rows[-1].second)
