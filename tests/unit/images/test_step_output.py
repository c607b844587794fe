"""What a step says reaches people in lines that cannot harm their terminal, and not endlessly."""

from __future__ import annotations

import pytest

from vmorch.images import workshop
from vmorch.images.workshop import Output


def said(*chunks: bytes) -> list[str]:
    lines: list[str] = []
    output = Output(lines.append)
    for chunk in chunks:
        output.feed(chunk)
    output.close()
    return lines


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a", b"b\nc"], ["ab", "c"]),
        ([b"10%\r20%\r30%\n"], ["30%"]),
        ([b"dos\r\n"], ["dos"]),
        ([b"\x1b[31mred\x1b[0m\n"], ["red"]),
        ([b"\x1b]0;title\x07text\n"], ["text"]),
        ([b"\x1b[2J\x1b[Hx\x07\x00\n"], ["x"]),
        ([b"caf\xc3\xa9 \xff\n"], ["café \ufffd"]),
        ([b"\n"], [""]),
    ],
)
def test_lines(chunks: list[bytes], lines: list[str]) -> None:
    assert said(*chunks) == lines


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workshop, "LOG_LINES", 3)
    lines = said(b"1\n2\n3\n4\n5\n")
    assert lines[:3] == ["1", "2", "3"]
    assert len(lines) == 4
    assert "not shown" in lines[3]
    assert len(said(b"x" * 100_000)[0]) == workshop.LINE_CHARACTERS


def test_the_tail_is_the_end_even_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workshop, "LOG_LINES", 1)
    output = Output(lambda line: None)
    output.feed(b"".join(b"%d\n" % n for n in range(1000)))
    assert output.tail.splitlines()[-1] == "999"
