"""Measures of real guests, decided on again: `script/bench step` records them, with what its daemon
decided."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoscale_values import NOTHING, Change

from vmorch.model.autoscale import AutoscaleSpec
from vmorch.model.use import ServiceUse
from vmorch.planner.autoscale import desired

TRACE = Path(__file__).parent / "traces/step_guests.json"


def decided(spec: AutoscaleSpec, ticks: Sequence[ServiceUse]) -> Iterator[Change]:
    """Each change of the count, from one look at the measures to the next."""
    count, memory = spec.min, NOTHING
    for number, tick in enumerate(ticks, start=1):
        decision = desired(spec, ticks[:number], now=tick.at, current=count, memory=memory)
        if decision.count != count:
            yield tick.at, decision.count
        count, memory = decision.count, decision.memory


def test_the_decisions_of_a_daemon_follow_from_its_measures_alone() -> None:
    recorded = json.loads(TRACE.read_text())
    spec = AutoscaleSpec(**recorded["autoscale"])
    ticks = [ServiceUse(**tick) for tick in recorded["ticks"]]
    told = [(one["at"], one["count"]) for one in recorded["decisions"]]
    assert list(decided(spec, ticks)) == told
    assert max(count for _, count in told) == 3
    assert told[-1][1] == 1
