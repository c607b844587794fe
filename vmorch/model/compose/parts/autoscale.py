"""`autoscale:`, a key of ours: its form, and how it is written out."""

from __future__ import annotations

from typing import Any

from vmorch.model.autoscale import WEEKDAYS, AutoscaleSpec, ScheduledFloor, clock
from vmorch.model.compose.containers import ListOf
from vmorch.model.compose.forms import COUNT, DURATION, Word
from vmorch.model.compose.objects import Key, Object, Values
from vmorch.model.compose.quantities import DECIMAL, decimal_text, duration_text

_NAMES = dict(enumerate(WEEKDAYS))
_DAY = "|".join(WEEKDAYS)
_DAYS = rf"(?:{_DAY})(?:-(?:{_DAY}))?(?:,(?:{_DAY})(?:-(?:{_DAY}))?)*"
_PLACE = r"[A-Za-z0-9_+-]{1,32}"


def _share(text: str) -> float:
    return int(text[:-1]) / 100


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _days(text: str) -> tuple[int, ...]:
    """`fri-mon` goes over the week's end."""
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start = WEEKDAYS.index(first)
        length = (WEEKDAYS.index(last or first) - start) % 7
        days |= {(start + offset) % 7 for offset in range(length + 1)}
    return tuple(sorted(days))


_PER_INSTANCE = Word("a number such as 20 or 0.5", DECIMAL, float, numbers=True)
_PERCENT = Word("a percentage such as 70%", r"[1-9][0-9]?%|100%", _share)
_CLOCK = Word('a time of day such as "08:00"', r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", _minute)
_WEEK = Word("days such as mon-fri or sat,sun", _DAYS, _days)
_ZONE = Word("a time zone such as Europe/Berlin", rf"{_PLACE}(?:/{_PLACE}){{0,3}}")


def _taken(values: Values, **names: str) -> dict[str, Any]:
    return {field: values.get(key) for field, key in names.items() if key in values}


def _floor(values: Values) -> ScheduledFloor | None:
    given = _taken(values, start_minute="from", end_minute="to", min="min", days="days", tz="tz")
    if not {"start_minute", "end_minute", "min"} <= given.keys():
        return None
    return ScheduledFloor(**given)


def _autoscale(values: Values) -> AutoscaleSpec | None:
    if "max" not in values:
        return None
    same = {key: key for key in ("max", "min", "concurrency", "rps", "cpu", "memory")}
    given = _taken(
        values,
        **same,
        idle_seconds="idle",
        hold_seconds="hold",
        stabilization_seconds="stabilization",
        window_seconds="window",
    )
    schedule = tuple(floor for floor in values.get("schedule", ()) if floor)
    return AutoscaleSpec(**given, schedule=schedule)


_SCHEDULE = ListOf(
    Object(
        name="floor",
        build=_floor,
        keys={
            "from": Key(_CLOCK, "When it begins to hold.", required=True),
            "to": Key(_CLOCK, "When it ends; not after 'from': on the next day.", required=True),
            "min": Key(COUNT, "The least number of instances in that time.", required=True),
            "days": Key(_WEEK, "Days on which it begins; all if not given."),
            "tz": Key(_ZONE, "Whose clocks; UTC if not given."),
        },
    )
)
AUTOSCALE = Object(
    name="autoscale",
    build=_autoscale,
    keys={
        "min": Key(COUNT, "The least number of instances; 1 if not given."),
        "max": Key(COUNT, "The greatest number of instances.", required=True),
        "concurrency": Key(_PER_INSTANCE, "Requests in flight that one instance should have."),
        "rps": Key(_PER_INSTANCE, "Requests per second that one instance should have."),
        "cpu": Key(_PERCENT, "Share of its CPU cap that an instance should use."),
        "memory": Key(_PERCENT, "Share of its memory that an instance should use."),
        "idle": Key(DURATION, "With 'min: 0', how long nothing was asked before it sleeps."),
        "hold": Key(DURATION, "With 'min: 0', how long a request waits until it is awake."),
        "stabilization": Key(DURATION, "How long less must be wanted before there is less."),
        "window": Key(DURATION, "Over which requests in flight are averaged."),
        "schedule": Key(_SCHEDULE, "Least numbers of instances by the time of day."),
    },
)


def written(spec: AutoscaleSpec) -> dict[str, Any]:
    """The mapping that `AUTOSCALE` reads back as `spec`."""
    per_instance = {"concurrency": spec.concurrency, "rps": spec.rps}
    shares = {"cpu": spec.cpu, "memory": spec.memory}
    times = {
        "idle": spec.idle_seconds,
        "hold": spec.hold_seconds if spec.min == 0 else None,
        "stabilization": spec.stabilization_seconds,
        "window": spec.window_seconds,
    }
    return {
        "min": spec.min,
        "max": spec.max,
        **{key: decimal_text(value) for key, value in per_instance.items() if value is not None},
        **{key: f"{share:.0%}" for key, share in shares.items() if share is not None},
        **{key: duration_text(value) for key, value in times.items() if value is not None},
        "schedule": [_written_floor(floor) for floor in spec.schedule],
    }


def _written_floor(floor: ScheduledFloor) -> dict[str, Any]:
    return {
        "from": clock(floor.start_minute),
        "to": clock(floor.end_minute),
        "min": floor.min,
        # What is no day comes from no file, and is refused when it is read back.
        "days": ",".join(_NAMES.get(day, "?") for day in floor.days),
        "tz": floor.tz,
    }
