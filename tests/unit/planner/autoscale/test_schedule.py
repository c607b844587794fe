"""When a scheduled floor holds, in local time."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from vmorch.model.autoscale import ScheduledFloor
from vmorch.model.schedule import floor_at, floor_text

WORK = ScheduledFloor(
    start_minute=8 * 60, end_minute=18 * 60, min=3, days=(0, 1, 2, 3, 4), tz="Europe/Berlin"
)
NIGHT = ScheduledFloor(start_minute=22 * 60, end_minute=6 * 60, min=2, days=(4,))


def berlin(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()


def utc(text: str) -> float:
    return datetime.fromisoformat(text + "+00:00").timestamp()


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("2026-11-23 07:59:59", False),  # a Monday
        ("2026-11-23 08:00", True),
        ("2026-11-27 17:59:59", True),
        ("2026-11-27 18:00", False),
        ("2026-11-28 12:00", False),
        ("2026-07-06 08:00", True),  # in summer time too
        ("2026-07-06 07:59", False),
    ],
)
def test_it_holds_by_the_clocks_of_its_zone(when: str, holds: bool) -> None:
    assert (floor_at((WORK,), berlin(when)) == WORK) is holds


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("2026-11-27 21:59", False),
        ("2026-11-27 22:00", True),  # a Friday
        ("2026-11-28 05:59", True),
        ("2026-11-28 06:00", False),
        ("2026-11-28 22:00", False),
    ],
)
def test_one_that_ends_on_the_next_day(when: str, holds: bool) -> None:
    assert (floor_at((NIGHT,), utc(when)) is not None) is holds


def test_the_same_start_and_end_are_a_whole_day() -> None:
    day = ScheduledFloor(start_minute=0, end_minute=0, min=2, days=(5,))
    times = ("2026-11-27 23:59", "2026-11-28 00:00", "2026-11-28 23:59", "2026-11-29 00:00")
    assert [floor_at((day,), utc(t)) is not None for t in times] == [False, True, True, False]


def test_the_highest_floor_counts() -> None:
    more = ScheduledFloor(start_minute=0, end_minute=0, min=5)
    assert floor_at((WORK, more, WORK), berlin("2026-11-23 12:00")) == more


@pytest.mark.parametrize(
    ("hours", "when", "holds"),
    [
        # On 29 March 2026, 02:00 is 03:00 in Berlin, at 01:00 UTC.
        ("02:30-03:15", "2026-03-29 00:59", False),
        ("02:30-03:15", "2026-03-29 01:00", True),
        ("02:30-03:15", "2026-03-29 01:05", True),
        ("02:30-03:15", "2026-03-29 01:15", False),
        ("02:30-04:00", "2026-03-29 01:00", True),
        ("02:30-04:00", "2026-03-29 02:00", False),
        ("01:00-02:30", "2026-03-29 00:59", True),
        ("01:00-02:30", "2026-03-29 01:00", False),
        ("02:15-02:45", "2026-03-29 00:30", False),  # there is no such time
        ("02:15-02:45", "2026-03-29 01:30", False),
        ("22:00-06:00", "2026-03-29 03:59", True),
        ("22:00-06:00", "2026-03-29 04:00", False),
        # On 25 October 2026, 03:00 is 02:00 again, at 01:00 UTC.
        ("02:00-02:45", "2026-10-24 23:59", False),
        ("02:00-02:45", "2026-10-25 00:10", True),
        ("02:00-02:45", "2026-10-25 00:50", True),
        ("02:00-02:45", "2026-10-25 01:10", True),
        ("02:00-02:45", "2026-10-25 01:45", False),
        ("02:30-04:00", "2026-10-25 00:29", False),
        ("02:30-04:00", "2026-10-25 00:30", True),
        ("02:30-04:00", "2026-10-25 01:10", True),
        ("02:30-04:00", "2026-10-25 03:00", False),
        ("22:00-06:00", "2026-10-25 04:59", True),
        ("22:00-06:00", "2026-10-25 05:00", False),
    ],
)
def test_on_the_days_when_the_clock_is_changed(hours: str, when: str, holds: bool) -> None:
    start, end = (60 * int(text[:2]) + int(text[3:]) for text in hours.split("-"))
    floor = ScheduledFloor(start_minute=start, end_minute=end, min=2, tz="Europe/Berlin")
    assert (floor_at((floor,), utc(when)) is not None) is holds


def test_a_zone_that_is_not_known_any_more_holds_always() -> None:
    lost = ScheduledFloor(start_minute=0, end_minute=60, min=2, tz="Mars/Base")
    assert floor_at((lost,), utc("2026-11-23 12:00")) == lost


def test_it_says_when_it_holds() -> None:
    assert floor_text(WORK) == "3 at least from 08:00 to 18:00 mon,tue,wed,thu,fri (Europe/Berlin)"
    assert floor_text(ScheduledFloor(start_minute=0, end_minute=61, min=2)) == (
        "2 at least from 00:00 to 01:01 (UTC)"
    )
