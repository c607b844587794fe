"""Floors by the time of day. Pure, but for the table of a time zone, which is read once.

A floor holds between two instants that are worked out from the local clock, so that it is clear
when it holds also on the days when that clock is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, tzinfo

from vmorch.model.autoscale import WEEKDAYS, ScheduledFloor, clock, zone_named


def floor_at(schedule: tuple[ScheduledFloor, ...], now: float) -> ScheduledFloor | None:
    """The highest floor that holds."""
    holding = (floor for floor in schedule if _holds(floor, now))
    return max(holding, key=lambda floor: floor.min, default=None)


def floor_text(floor: ScheduledFloor) -> str:
    hours = f"{clock(floor.start_minute)} to {clock(floor.end_minute)}"
    days = "" if len(floor.days) == 7 else " " + ",".join(WEEKDAYS[day] for day in floor.days)
    return f"{floor.min} at least from {hours}{days} ({floor.tz})"


def _holds(floor: ScheduledFloor, now: float) -> bool:
    """One whose time zone the host does not know any more always does: that costs an instance,
    the other way might cost the service."""
    if zone_named(floor.tz) is None:
        return True
    return any(start <= now < end for start, end in _spans(floor, now))


def _spans(floor: ScheduledFloor, now: float) -> Iterator[tuple[float, float]]:
    """When it holds, today and from yesterday, which may reach into today."""
    zone = zone_named(floor.tz)
    if zone is None:
        return
    today = datetime.fromtimestamp(now, zone).date()
    over_midnight = timedelta(days=1 if floor.end_minute <= floor.start_minute else 0)
    for day in (today + timedelta(days=offset) for offset in (-1, 0)):
        if day.weekday() in floor.days:
            start = _instant(day, floor.start_minute, zone)
            yield start, _instant(day + over_midnight, floor.end_minute, zone)


def _instant(day: date, minute: int, zone: tzinfo) -> float:
    return datetime.combine(day, time(*divmod(minute, 60)), zone).timestamp()
