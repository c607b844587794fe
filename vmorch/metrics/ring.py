"""A bounded history of measures: the means of equal steps, the oldest overwritten."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import fields
from operator import attrgetter
from typing import Generic, TypeVar

from vmorch.model.use import HostUse, InstanceUse, ServiceUse

Measure = TypeVar("Measure", bound=InstanceUse | ServiceUse | HostUse)

STEP_SECONDS = 10.0
STEPS = 360
"""One hour."""


class Ring(Generic[Measure]):
    """Of one subject. Numbers are kept with the seven digits of a C float, so that an hour of an
    instance takes 30 KiB."""

    def __init__(self, kind: type[Measure]) -> None:
        self._kind = kind
        self._names = [field.name for field in fields(kind) if field.name != "at"]
        self._row = attrgetter(*self._names)
        self._times = array("d", bytes(8 * STEPS))
        self._values = array("f", bytes(4 * STEPS * len(self._names)))
        self._count = 0
        self._step = -math.inf
        self._sums = [0.0] * len(self._names)
        self._seen = [0] * len(self._names)

    def add(self, measure: Measure) -> None:
        """A measure of a new step ends the one before. Time that goes back begins a new step,
        too: then the times of the points do as well."""
        step = measure.at // STEP_SECONDS
        if step != self._step:
            self._end_step()
            self._step = step
        sums, seen = self._sums, self._seen
        for number, value in enumerate(self._row(measure)):
            if value is not None:
                sums[number] += value
                seen[number] += 1

    def points(self, since: float = 0.0) -> Iterator[Measure]:
        """Of ended steps, oldest first; `at` is a step's end."""
        width = len(self._names)
        for count in range(max(0, self._count - STEPS), self._count):
            place = count % STEPS
            if (at := self._times[place]) > since:
                row = self._values[place * width : (place + 1) * width]
                yield self._measure(at, row)

    def _measure(self, at: float, row: array[float]) -> Measure:
        known = {
            name: None if math.isnan(value) else value
            for name, value in zip(self._names, row, strict=True)
        }
        return self._kind(at=at, **known)  # type: ignore[arg-type]

    def _end_step(self) -> None:
        if self._step == -math.inf:
            return
        place, width = self._count % STEPS, len(self._names)
        self._times[place] = (self._step + 1) * STEP_SECONDS
        means = (
            total / seen if seen else math.nan
            for total, seen in zip(self._sums, self._seen, strict=True)
        )
        self._values[place * width : (place + 1) * width] = array("f", means)
        self._count += 1
        self._sums, self._seen = [0.0] * width, [0] * width
