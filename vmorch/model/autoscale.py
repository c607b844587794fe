"""How the number of a service's instances follows its load: what the user asks for, and what the
decisions of `vmorch.planner.autoscale` remember from one to the next."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import tzinfo
from zoneinfo import ZoneInfo

DEFAULT_STABILIZATION_SECONDS = 300.0
"""As in Kubernetes."""
DEFAULT_HOLD_SECONDS = 30.0
DEFAULT_WINDOW_SECONDS = 60.0
"""As in Knative."""
LEAST_WINDOW_SECONDS = 6.0
"""Three ticks of the measures. In less, one that is late or odd would decide alone."""

LONGEST_WINDOW_SECONDS = 600.0
"""For so long each tick of the measures is kept."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Load(enum.StrEnum):
    """What can be measured of a service and held at a target."""

    CONCURRENCY = "concurrency"
    RPS = "rps"
    CPU = "cpu"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledFloor:
    """At least `min` instances from `start_minute` to `end_minute` of the day, by the clocks of
    the time zone `tz`, on `days` (0 is Monday). An end that is not after the start is on the next
    day; the days are those on which it starts."""

    start_minute: int
    end_minute: int
    min: int
    days: tuple[int, ...] = tuple(range(7))
    tz: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscaleSpec:
    """From `min` to `max` instances, as many as it takes to hold every target.

    `concurrency` and `rps` are requests in flight and per second that one instance should have,
    `cpu` and `memory` the share of its cap that it should use (0.7 is 70 %). A `min` of 0 lets the
    last instance sleep once nothing was asked of it for `idle_seconds`; a request then waits for at
    most `hold_seconds` until it is awake.
    """

    max: int
    min: int = 1
    concurrency: float | None = None
    rps: float | None = None
    cpu: float | None = None
    memory: float | None = None
    idle_seconds: float | None = None
    hold_seconds: float = DEFAULT_HOLD_SECONDS
    stabilization_seconds: float = DEFAULT_STABILIZATION_SECONDS
    window_seconds: float = DEFAULT_WINDOW_SECONDS
    schedule: tuple[ScheduledFloor, ...] = ()

    def at_first(self, replicas: int) -> int:
        """How many instances a new service begins with: its `replicas`, within its bounds. At least
        one: of what never ran no memory could be kept."""
        return max(1, self.bounded(replicas))

    def bounded(self, count: int) -> int:
        """`count`, or the nearest number that is allowed."""
        return max(self.min, min(count, self.max))

    @property
    def panic_window_seconds(self) -> float:
        """What shows a burst: a tenth, as in Knative."""
        return max(LEAST_WINDOW_SECONDS, self.window_seconds / 10)

    @property
    def tracking_window_seconds(self) -> float:
        """Over which rates and shares are averaged: by default the 15 s of Kubernetes' period."""
        return max(LEAST_WINDOW_SECONDS, self.window_seconds / 4)

    @property
    def look_back_seconds(self) -> float:
        """As far back as a decision looks: a short window does not show for how long a load is
        known."""
        return max(DEFAULT_WINDOW_SECONDS, self.window_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A number of instances, at a time."""

    at: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A time in which nothing was asked of a service, from the first measure that shows it to the
    last."""

    since: float
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscaleMemory:
    """What one decision leaves to the next. A new daemon begins with an empty one.

    `panicked_at`: a burst was last seen then; None when it is over. `recommended` are the counts
    that the load asked for, each with the last time it did, from the greatest down; `in_force` the
    counts that held, each with the time from which it did; `silence` lasts, or None.
    """

    panicked_at: float | None = None
    recommended: tuple[Count, ...] = ()
    in_force: tuple[Count, ...] = ()
    silence: Silence | None = None


def clock(minute: int) -> str:
    """A minute of the day as `08:00`."""
    return f"{minute // 60:02}:{minute % 60:02}"


def zone_named(name: str) -> tzinfo | None:
    """The time zone of that name in the host's own tables; None if there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # A key that is no zone is any of these, by what lies at its place among the tables.
        return None
