"""When a scheduled floor holds, in local time."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from vmorch.model.autoscale import ScheduledFloor
from vmorch.planner.autoscale.schedule import floor_at, floor_text

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


def test_a_zone_that_is_not_known_any_more_holds_always() -> None:
    lost = ScheduledFloor(start_minute=0, end_minute=60, min=2, tz="Mars/Base")
    assert floor_at((lost,), utc("2026-11-23 12:00")) == lost


def test_it_says_when_it_holds() -> None:
    assert floor_text(WORK) == "3 at least from 08:00 to 18:00 mon,tue,wed,thu,fri (Europe/Berlin)"
    assert floor_text(ScheduledFloor(start_minute=0, end_minute=61, min=2)) == (
        "2 at least from 00:00 to 01:01 (UTC)"
    )
