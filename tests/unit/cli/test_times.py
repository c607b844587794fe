from __future__ import annotations

import pytest

from vmorch.cli.times import moment, shown
from vmorch.errors import UsageError


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("10m", 9400.0),
        ("1h30m", 4600.0),
        ("1.5s", 9998.5),
        ("1d", -76400.0),
        ("1700000000", 1700000000.0),
        ("2023-11-14T22:13:20Z", 1700000000.0),
        ("2023-11-14T23:13:20.500+01:00", 1700000000.5),
    ],
)
def test_moments(text: str, time: float) -> None:
    assert moment(text, 10000.0) == time


@pytest.mark.parametrize("text", ["", "yesterday", "10x", "m", "-5m", "2023-13-01"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError):
        moment(text, 0.0)


def test_times_are_shown_in_utc() -> None:
    assert shown(1700000000.1234) == "2023-11-14T22:13:20.123Z"
