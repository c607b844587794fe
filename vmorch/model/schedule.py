"""Floors by the time of day. Pure, but for the table of a time zone, which is read once.

A floor holds while the local clock shows a time within it; and where the clock is set back, from
the first time that it shows the start until the last time that it shows the end, without a break.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from vmorch.model.autoscale import WEEKDAYS, AutoscaleSpec, ScheduledFloor, clock, zone_named


def floor_at(schedule: tuple[ScheduledFloor, ...], now: float) -> ScheduledFloor | None:
    """The highest floor that holds."""
    holding = (floor for floor in schedule if _holds(floor, now))
    return max(holding, key=lambda floor: floor.min, default=None)


def least_at(spec: AutoscaleSpec, now: float) -> int:
    """The fewest instances that `min` and the floors allow, but for the last one's sleep."""
    floor = floor_at(spec.schedule, now)
    return max(spec.min, min(floor.min, spec.max) if floor else 0)


def floor_text(floor: ScheduledFloor) -> str:
    hours = f"{clock(floor.start_minute)} to {clock(floor.end_minute)}"
    days = "" if len(floor.days) == 7 else " " + ",".join(WEEKDAYS[day] for day in floor.days)
    return f"{floor.min} at least from {hours}{days} ({floor.tz})"


def _holds(floor: ScheduledFloor, now: float) -> bool:
    """One whose time zone the host does not know any more always does: that costs an instance,
    the other way might cost the service."""
    zone = zone_named(floor.tz)
    if zone is None:
        return True
    local = datetime.fromtimestamp(now, zone)
    return any(_is_within(local, start, end) for start, end in _spans(floor, local.date()))


def _spans(floor: ScheduledFloor, today: date) -> Iterator[tuple[datetime, datetime]]:
    """What the local clock shows when it begins and ends, yesterday, which may reach into today,
    and today."""
    over_midnight = timedelta(days=1 if floor.end_minute <= floor.start_minute else 0)
    for day in (today - timedelta(days=1), today):
        if day.weekday() in floor.days:
            start = datetime.combine(day, time(*divmod(floor.start_minute, 60)))
            end = datetime.combine(day + over_midnight, time(*divmod(floor.end_minute, 60)))
            yield start, end


def _is_within(local: datetime, start: datetime, end: datetime) -> bool:
    if start <= local.replace(tzinfo=None) < end:
        return True
    begun = start.replace(tzinfo=local.tzinfo).timestamp()
    over = end.replace(tzinfo=local.tzinfo, fold=1).timestamp()
    return begun <= local.timestamp() < over
