"""Numbers with units, and which plain scalars are numbers at all."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmorch.model.compose import quantities as q
from vmorch.model.compose.scalars import resolve


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("100", 100),
        ("100b", 100),
        ("1k", 1024),
        ("1kb", 1024),
        ("1K", 1024),
        ("1KiB", 1024),
        ("256M", 256 * 1024**2),
        ("512mb", 512 * 1024**2),
        ("1g", 1024**3),
        ("1.5G", 3 * 512 * 1024**2),
        ("2 GB", 2 * 1024**3),
        ("1T", 1024**4),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert re.fullmatch(q.BYTES, text)
    assert q.byte_count(text) == count


@pytest.mark.parametrize("text", ["", "M", "-1", "1e3", "1MM", "1 M B", "٣", "1,5G", "1." * 3])
def test_no_sizes(text: str) -> None:
    assert not re.fullmatch(q.BYTES, text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("10s", 10),
        ("1m30s", 90),
        ("2h", 7200),
        ("500ms", 0.5),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("1.5s", 1.5),
        ("1h2m3s4ms", 3723.004),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert re.fullmatch(q.DURATION, text)
    assert q.duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1d", "1 s", "1s ", "1S"])
def test_no_durations(text: str) -> None:
    assert not re.fullmatch(q.DURATION, text)


@given(st.integers(0, 10**18 - 1))
def test_a_size_survives_being_written(count: int) -> None:
    text = q.byte_text(count)
    assert re.fullmatch(q.BYTES, text)
    assert q.byte_count(text) == count


@given(st.integers(0, 10**9))
def test_a_duration_survives_being_written(milliseconds: int) -> None:
    text = q.duration_text(milliseconds / 1000)
    assert re.fullmatch(q.DURATION, text)
    assert q.duration_seconds(text) == milliseconds / 1000


@given(st.integers(-10, 100_000))
def test_ports_are_those_from_1_to_65535(number: int) -> None:
    assert bool(re.fullmatch(q.PORT, str(number))) == (1 <= number <= 65535)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("12", 12),
        ("-12", -12),
        ("0644", 0o644),
        ("0o644", 0o644),
        ("0x1F", 31),
        ("089", 89.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("22:22", "22:22"),
        ("1:20:30", "1:20:30"),
        ("2026-11-24", "2026-11-24"),
        ("1_000", "1_000"),
        ("٣", "٣"),
        ("=", "="),
        ("<<", "<<"),
        ("1.2.3", "1.2.3"),
        ("9" * 50, "9" * 50),
    ],
)
def test_plain_scalars(text: str, value: object) -> None:
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)
