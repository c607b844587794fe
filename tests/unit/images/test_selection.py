"""Which files of a context a COPY names, and that nothing leads out of it."""

from __future__ import annotations

import pytest

from vmorch.images.dockerfile.words import BadWord
from vmorch.images.selection import Context, check_entries
from vmorch.model.context import ContextEntry


def file(path: str) -> ContextEntry:
    return ContextEntry(path=path, kind="file", mode=0o644, digest="d", size=1)


def directory(path: str) -> ContextEntry:
    return ContextEntry(path=path, kind="directory", mode=0o700)


def link(path: str, target: str) -> ContextEntry:
    return ContextEntry(path=path, kind="symlink", mode=0o777, target=target)


CONTEXT = Context(
    [
        file("a.py"),
        file("b.py"),
        directory("d"),
        file("d/x"),
        file("d/e/y"),
        link("to-file", "d/x"),
        link("to-dir", "/d"),
        link("d/up", "../../../a.py"),
        link("loop", "loop"),
        link("out", "../../etc/passwd"),
    ]
)


def selected(pattern: str) -> list[tuple[str, list[str]]]:
    return [(s.name, [e.path for e in s.entries]) for s in CONTEXT.select(pattern)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.py", [("a.py", [""])]),
        ("*.py", [("a.py", [""]), ("b.py", [""])]),
        ("[b-z].py", [("b.py", [""])]),
        ("d", [("d", ["", "e", "e/y", "up", "x"])]),
        ("d/?", [("e", ["", "y"]), ("x", [""])]),
        ("d/e", [("e", ["", "y"])]),
        ("to-file", [("to-file", [""])]),
        ("to-dir/x", [("x", [""])]),
        ("d/up", [("up", [""])]),
    ],
)
def test_select(pattern: str, expected: list[tuple[str, list[str]]]) -> None:
    assert selected(pattern) == expected


def test_the_whole_context() -> None:
    [(name, paths)] = selected("")
    assert (name, paths[0], len(paths)) == ("", "", 12)


def test_a_link_that_is_named_gives_what_it_points_at() -> None:
    [chosen] = CONTEXT.select("to-file")
    assert chosen.entries[0].kind == "file"
    [chosen] = CONTEXT.select("to-dir")
    assert [e.path for e in chosen.entries] == ["", "e", "e/y", "up", "x"]


@pytest.mark.parametrize("pattern", ["none", "d/none", "*.go", "out", "loop", "a.py/x", "[a"])
def test_nothing(pattern: str) -> None:
    with pytest.raises(BadWord):
        CONTEXT.select(pattern)


def test_did_you_mean() -> None:
    with pytest.raises(BadWord, match=r"did you mean 'a\.py'"):
        CONTEXT.select("a.pyy")


@pytest.mark.parametrize(
    "entries",
    [
        [file("/a")],
        [file("a/../b")],
        [file("")],
        [file("a//b")],
        [file("./a")],
        [file("a\0b")],
        [file("a"), file("a")],
        [link("a", "/etc"), file("a/passwd")],
        [file("a"), file("a/b")],
        [ContextEntry(path="a", kind="device", mode=0)],
    ],
)
def test_a_hostile_context_is_refused(entries: list[ContextEntry]) -> None:
    assert check_entries(entries)


def test_a_good_context() -> None:
    assert check_entries([directory("a"), file("a/b"), file("c/d"), link("e", "../x")]) == ""
