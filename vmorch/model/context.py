"""A build context as values: its entries, and which paths `.dockerignore` leaves out.

Pure; `vmorch.context` walks and hashes, the image builder reads the entries.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextEntry:
    """A file of a build context. `kind` is "file", "directory" or "symlink"; `digest`
    ("sha256:…") and `size` for files, `target` for symlinks; `mode` are permission bits.
    `path` is relative, with `/`, without `.` or `..`."""

    path: str
    kind: str
    mode: int
    digest: str = ""
    size: int = 0
    target: str = ""


@dataclass(frozen=True, slots=True)
class IgnorePattern:
    """One line of `.dockerignore`; `negated` lines (`!…`) take matching paths back in."""

    text: str
    negated: bool
    expression: re.Pattern[str]

    def matches(self, path: str) -> bool:
        """Whether the path or one of the directories above it matches."""
        while path:
            if self.expression.fullmatch(path):
                return True
            path = path.rpartition("/")[0]
        return False


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """All lines in their order; the last line that matches a path decides."""

    patterns: tuple[IgnorePattern, ...] = ()

    def ignores(self, path: str) -> bool:
        """`path` is relative to the context, with `/` between its parts."""
        ignored = False
        for pattern in self.patterns:
            # A line that would not change the verdict need not be matched at all.
            if ignored == pattern.negated and pattern.matches(path):
                ignored = not pattern.negated
        return ignored

    @property
    def may_reinclude(self) -> bool:
        """False: nothing below an ignored directory can come back, so it need not be walked."""
        return any(pattern.negated for pattern in self.patterns)


def parse_ignore(lines: Iterable[str]) -> IgnoreRules:
    """Read the lines of a `.dockerignore` (Docker's documentation, ".dockerignore file").

    Raises:
        ValueError: a pattern is malformed; the text names the line.
    """
    patterns = []
    for number, line in enumerate(lines, start=1):
        pattern = _parse_line(line.removeprefix("\ufeff") if number == 1 else line, number)
        if pattern is not None:
            patterns.append(pattern)
    return IgnoreRules(tuple(patterns))


def _parse_line(line: str, number: int) -> IgnorePattern | None:
    if line.startswith("#"):
        return None
    text = line.strip()
    negated = text.startswith("!")
    text = text.removeprefix("!").strip() if negated else text
    if not text:
        return None
    text = posixpath.normpath(text).lstrip("/")
    if text in {"", "."}:
        return None
    try:
        return IgnorePattern(text, negated, re.compile(_ignore_expression(text), re.DOTALL))
    except re.error as error:
        raise ValueError(f"line {number}: '{line.strip()}' is no pattern: {error}") from error


def _ignore_expression(pattern: str) -> str:
    """Go's filepath.Match, with `**` for any number of directories."""
    out, at = [], 0
    while at < len(pattern):
        if pattern.startswith("**", at):
            at += 2
            while pattern.startswith("*", at):
                at += 1
            if at >= len(pattern):
                out.append(".*")
            else:
                at += pattern.startswith("/", at)
                out.append("(?:.*/)?")
            continue
        piece, at = _glob_piece(pattern, at)
        out.append(piece)
    return "".join(out)


def glob_expression(pattern: str) -> re.Pattern[str]:
    """Go's filepath.Match as a regular expression: `*` and `?` do not cross a `/`.

    Raises:
        ValueError: the pattern is malformed.
    """
    out, at = [], 0
    try:
        while at < len(pattern):
            piece, at = _glob_piece(pattern, at)
            out.append(piece)
        return re.compile("".join(out), re.DOTALL)
    except re.error as error:
        raise ValueError(f"'{pattern}' is no pattern: {error}") from error


def _glob_piece(pattern: str, at: int) -> tuple[str, int]:
    char = pattern[at]
    if char == "*":
        return "[^/]*", at + 1
    if char == "?":
        return "[^/]", at + 1
    if char == "\\" and at + 1 < len(pattern):
        return re.escape(pattern[at + 1]), at + 2
    if char == "[":
        end = pattern.find("]", at + 2)
        if end < 0:
            raise re.error("'[' without ']'")
        inner = pattern[at + 1 : end].replace("[", "\\[")
        return f"[{inner}]", end + 1
    return re.escape(char), at + 1


def has_wildcards(pattern: str) -> bool:
    return any(char in pattern for char in "*?[")


def sorted_entries(entries: Sequence[ContextEntry]) -> tuple[ContextEntry, ...]:
    """By path, parents before their children: the order in which a directory was listed must
    not reach a digest."""
    return tuple(sorted(entries, key=lambda entry: entry.path.split("/")))
