"""The readings of one load in the last so many seconds. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from vmorch.model.autoscale import Load
from vmorch.model.use import ServiceUse


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The load of the whole service at a moment, the sum over the `told` instances that it is
    known of. Of shares, that sum is steady while instances come and go, and their mean is not."""

    at: float
    total: float
    told: float
    ready: float

    @property
    def whole(self) -> bool:
        return self.told >= self.ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """`readings` of the `seconds` up to `now`, oldest first; empty if nothing is known."""

    readings: tuple[Reading, ...]
    now: float
    seconds: float

    def total(self) -> float:
        """The mean over time. There must be readings."""
        return math.fsum(reading.total for reading in self.readings) / len(self.readings)

    @property
    def newest(self) -> Reading:
        return self.readings[-1]

    @property
    def whole(self) -> Window:
        """The readings of all ready instances."""
        return replace(self, readings=tuple(r for r in self.readings if r.whole))

    def unbroken(self, longest_hole_seconds: float) -> bool:
        """Whether all ready instances are known of at any time in the window, but for holes such
        as a single lost tick leaves."""
        whole = (reading.at for reading in self.whole.readings)
        times = (self.now - self.seconds, *whole, self.now)
        return all(later - earlier <= longest_hole_seconds for earlier, later in pairwise(times))

    def known_seconds(self, longest_hole_seconds: float) -> float:
        """For how long something is known by now, but for holes such as in `unbroken`."""
        since = self.now
        for reading in reversed(self.readings):
            if since - reading.at > longest_hole_seconds:
                break
            since = reading.at
        return self.now - since


def window(measures: Sequence[ServiceUse], load: Load, *, now: float, seconds: float) -> Window:
    """`measures` are in the order of time; what is later than `now` does not count."""
    found = (_reading(use, load) for use in measures if now - seconds <= use.at <= now)
    return Window(readings=tuple(r for r in found if r), now=now, seconds=seconds)


def _reading(use: ServiceUse, load: Load) -> Reading | None:
    match load:
        case Load.CONCURRENCY:
            total, told = use.sessions, use.ready
        case Load.RPS:
            total, told = use.requests, use.ready
        case Load.CPU:
            total, told = _sum(use.cpu_share, use.cpu_told), use.cpu_told
        case Load.MEMORY:
            total, told = _sum(use.memory_share, use.memory_told), use.memory_told
    return None if total is None else Reading(at=use.at, total=total, told=told, ready=use.ready)


def _sum(mean: float | None, told: float) -> float | None:
    return mean * told if mean is not None and told else None
