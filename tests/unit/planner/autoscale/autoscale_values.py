"""Measures, windows and traces for the tests of the autoscaler."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vmorch.model.autoscale import AutoscaleMemory, AutoscaleSpec
from vmorch.model.use import ServiceUse
from vmorch.planner.autoscale import desired
from vmorch.planner.autoscale.window import Reading, Window

TICK = 2.0
NOW = 10_000.0
NOTHING = AutoscaleMemory()
Change = tuple[float, int]


def shown(total: float, *, ready: int, told: int | None = None, seconds: float = 60.0) -> Window:
    """A window over which a load had this one value."""
    told = ready if told is None else told
    reading = Reading(at=NOW, total=total, told=told, ready=ready)
    return Window(readings=(reading,), now=NOW, seconds=seconds)


def use(
    at: float,
    *,
    ready: int,
    concurrency: float | None = None,
    rps: float | None = None,
    cpu: float | None = None,
    memory: float | None = None,
    told: int | None = None,
) -> ServiceUse:
    """One tick; `cpu` and `memory` are the means over `told` instances, all if not given."""
    told = ready if told is None else told
    return ServiceUse(
        at=at,
        instances=ready,
        ready=ready,
        sessions=concurrency,
        requests=rps,
        cpu_share=cpu,
        cpu_told=told if cpu is not None else 0,
        memory_share=memory,
        memory_told=told if memory is not None else 0,
    )


def steady(
    *, ready: int, now: float = NOW, seconds: float = 60.0, **loads: Any
) -> tuple[ServiceUse, ...]:
    """The same at every tick up to `now`."""
    ticks = reversed(range(int(seconds / TICK) + 1))
    return tuple(use(now - TICK * i, ready=ready, **loads) for i in ticks)


def trace(name: str) -> Callable[[float], float]:
    """The load over time of a file: each line holds until the next."""
    path = Path(__file__).parent / "traces" / f"{name}.csv"
    lines = [tuple(map(float, row)) for row in csv.reader(path.open()) if row[0][0].isdigit()]
    return lambda second: next(load for at, load in reversed(lines) if at <= second)


def replay(
    spec: AutoscaleSpec,
    measured: Callable[[float, int], ServiceUse],
    *,
    until: float,
    start: int = 1,
    boot_seconds: float = 20.0,
    restarts_at: float | None = None,
) -> Iterator[Change]:
    """Each change of the count: a service under load whose new instances are ready after
    `boot_seconds`. At `restarts_at` a new daemon begins, with neither measures nor memory."""
    count, ready, booting = start, start, list[Change]()
    memory, measures = NOTHING, list[ServiceUse]()
    for tick in range(int(until / TICK)):
        now = tick * TICK
        ready = min(count, max([ready, *(size for due, size in booting if due <= now)]))
        if now == restarts_at:
            memory, measures = NOTHING, []
        measures = [*measures[-60:], measured(now, ready)]
        decision = desired(spec, measures, now=now, current=count, memory=memory)
        memory = decision.memory
        if decision.count != count:
            fewer = [(due, size) for due, size in booting if size < decision.count]
            booting = [*fewer, (now + boot_seconds, decision.count)]
            yield now, decision.count
        count = decision.count
