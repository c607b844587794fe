from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmorch.cli.output import clean, duration, size, table_lines

ESCAPE_PARTS = st.sampled_from(["\x1b", *"[]\\ma\r\x07\x9b\x9d", "1;2"])


@given(st.one_of(st.text(), st.lists(ESCAPE_PARTS).map("".join)))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    left = clean(text)
    assert not any((ord(char) < 32 and char != "\t") or 127 <= ord(char) < 160 for char in left)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;new title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0;2;0\x1b\\sixel", "sixel"),
        ("\x9b31mred", "red"),
        ("a\x1b(Bb\x1b=c", "abc"),
        ("10%\r50%\r100%\r", "100%"),
        ("tab\tand ümläut 日本", "tab\tand ümläut 日本"),
        ("unfinished \x1b[3", "unfinished "),
        ("bell\x07 back\x08", "bell back"),
    ],
)
def test_escape_sequences_are_taken_out(text: str, left: str) -> None:
    assert clean(text) == left


def test_tables_align_and_are_clean() -> None:
    lines = table_lines(("A", "LONG"), [["xxx", "1"], ["y\x1b[1m", "22"]])
    assert lines == ["A    LONG", "xxx  1", "y    22"]


def test_sizes_and_durations() -> None:
    assert [size(n) for n in (0, 512, 1536, 256 * 1024**2, 3 * 1024**4)] == [
        "0B",
        "512B",
        "1.5K",
        "256M",
        "3072G",
    ]
    assert [duration(n) for n in (-1, 59.9, 60, 3725, 90000)] == [
        "0s",
        "59s",
        "1m 0s",
        "1h 2m",
        "1d 1h",
    ]
