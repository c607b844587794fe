"""Physical lines of a Dockerfile -> logical lines with their heredocs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vmorch.images.dockerfile.words import raw_words, unquoted

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.*?)\s*\Z")
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)\Z")
_HEREDOC_INSTRUCTIONS = {"RUN", "COPY", "ADD"}


@dataclass(frozen=True, slots=True)
class Heredoc:
    """`<<NAME`. `expand` is false when the delimiter was quoted: the body is taken literally."""

    name: str
    body: str
    expand: bool


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """An instruction with its continuations joined. `line` counts from 1 and is its first."""

    line: int
    text: str
    heredocs: tuple[Heredoc, ...] = ()


class MalformedLine(ValueError):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def split_lines(text: str) -> tuple[list[LogicalLine], str]:
    """The logical lines, and the escape character that the file chose.

    Raises:
        MalformedLine: a heredoc has no end, or a parser directive is wrong.
    """
    physical = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    escape, at = _directives(physical)
    continued = re.compile(rf"(?:^|[^{re.escape(escape)}]){re.escape(escape)}[ \t]*\Z")
    logical: list[LogicalLine] = []
    while at < len(physical):
        if not physical[at].strip() or physical[at].lstrip().startswith("#"):
            at += 1
            continue
        first = at
        joined, at = _join(physical, at, escape, continued)
        if not joined.strip():
            continue  # nothing but the escape character
        heredocs, at = _heredocs(joined, first, physical, at, escape)
        logical.append(LogicalLine(first + 1, joined.strip(), heredocs))
    return logical, escape


def _directives(physical: list[str]) -> tuple[str, int]:
    """Parser directives stand before everything else; `syntax` and `check` mean nothing here."""
    escape, seen, at = "\\", set[str](), 0
    for at, line in enumerate(physical):
        match = _DIRECTIVE.match(line.strip())
        name = match.group(1).lower() if match else ""
        if match is None or name not in {"escape", "syntax", "check"}:
            break
        if name in seen:
            raise MalformedLine(at + 1, f"the directive '{name}' appears twice")
        seen.add(name)
        if name == "escape":
            escape = match.group(2)
            if escape not in {"\\", "`"}:
                raise MalformedLine(at + 1, f"the escape character is '{escape}'; only \\ or `")
    return escape, at


def _join(physical: list[str], at: int, escape: str, continued: re.Pattern[str]) -> tuple[str, int]:
    """One logical line; comments and empty lines inside a continuation are no part of it."""
    parts: list[str] = []
    while at < len(physical):
        line = physical[at]
        at += 1
        if parts and (not line.strip() or line.lstrip().startswith("#")):
            continue
        if not continued.search(line):
            parts.append(line)
            break
        parts.append(line.rstrip(" \t").removesuffix(escape))
    return "".join(parts), at


def _heredocs(
    joined: str, first: int, physical: list[str], at: int, escape: str
) -> tuple[tuple[Heredoc, ...], int]:
    keyword, *more = joined.split(maxsplit=1)
    rest = more[0] if more else ""
    if keyword.upper() not in _HEREDOC_INSTRUCTIONS or rest.lstrip().startswith("["):
        return (), at
    found = []
    for word in raw_words(rest, escape):
        match = _HEREDOC.match(word)
        if match is None:
            continue
        strip_tabs, written = match.groups()
        name = unquoted(written, "\\")  # a shell reads it too, whatever escapes this file
        body, at = _body(name, bool(strip_tabs), first, physical, at)
        found.append(Heredoc(name, body, expand=name == written))
    return tuple(found), at


def _body(name: str, strip_tabs: bool, first: int, physical: list[str], at: int) -> tuple[str, int]:
    lines: list[str] = []
    while at < len(physical):
        line = physical[at].lstrip("\t") if strip_tabs else physical[at]
        at += 1
        if line == name:
            return "".join(part + "\n" for part in lines), at
        lines.append(line)
    raise MalformedLine(first + 1, f"the heredoc <<{name} has no end: no line is just '{name}'")


def is_heredoc_word(word: str) -> bool:
    return _HEREDOC.match(word) is not None
