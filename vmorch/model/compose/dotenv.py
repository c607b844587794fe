"""Files of variables (`env_file:`, and the command line's `.env`), by Compose's rules.

NAME=value           # a comment after a space
export NAME=value
NAME='as it is $NOT a variable'
NAME="with ${OTHER:-variables}, \\n escapes and several lines"
NAME                 the value that the variable already has; nothing when it has none
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from vmorch.model.compose.interpolate import BadTemplate, expand
from vmorch.model.compose.nodes import Mark, quoted

_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_.][A-Za-z0-9_.-]*)[ \t]*")
_SINGLE = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_COMMENT = re.compile(r"(?:^|[ \t])#")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}


class BadLine(Exception):
    """A line that sets no variable."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message

    def mark(self, file: str) -> Mark:
        return Mark(file, self.line, 1)


def parse_env(text: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that `text` sets; `variables` are those that its values may use.

    Raises:
        BadLine: the first line that is wrong.
    """
    return _Reader(text.removeprefix("\ufeff").replace("\r\n", "\n"), variables).read()


def parse_raw(text: str) -> dict[str, str]:
    """The variables of a file whose values stand as they are.

    Raises:
        BadLine: the first line that is wrong.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise BadLine(number, f"{quoted(line)} is not NAME=value.")
        found[name.strip()] = value
    return found


class _Reader:
    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._text = text
        self._at = 0
        self._variables = dict(variables)

    def read(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while self._at < len(self._text):
            blank = _REST.match(self._text, self._at)
            if blank:
                self._at = blank.end()
                continue
            name, value = self._entry()
            if value is not None:
                found[name] = self._variables[name] = value
        return found

    def _entry(self) -> tuple[str, str | None]:
        start = self._at
        name = _NAME.match(self._text, start)
        if name is None:
            raise self._bad(start)
        self._at = name.end()
        if self._text.startswith(("=", ":"), self._at):
            self._at += 1
            return name[1], self._value(start)
        end = _REST.match(self._text, self._at)
        if end is None:
            raise self._bad(start)
        self._at = end.end()
        return name[1], self._variables.get(name[1])

    def _value(self, start: int) -> str:
        while self._text.startswith((" ", "\t"), self._at):
            self._at += 1
        if self._text.startswith(("'", '"'), self._at):
            return self._quoted(self._text[self._at], start)
        end = self._text.find("\n", self._at)
        end = len(self._text) if end < 0 else end
        line = self._text[self._at : end]
        self._at = end + 1
        return self._expanded(_COMMENT.split(line, maxsplit=1)[0].strip(), start)

    def _quoted(self, quote: str, start: int) -> str:
        found = (_SINGLE if quote == "'" else _DOUBLE).match(self._text, self._at)
        if found is None:
            raise BadLine(self._line(start), f"The quote {quote} is not closed.")
        end = _REST.match(self._text, found.end())
        if end is None:
            raise BadLine(self._line(start), "There is text behind the closing quote.")
        self._at = end.end()
        if quote == "'":
            return found[1].replace("\\'", "'")
        text = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), found[1], flags=re.DOTALL)
        return self._expanded(text, start)

    def _expanded(self, text: str, start: int) -> str:
        try:
            return expand(text, self._variables)
        except BadTemplate as error:
            raise BadLine(self._line(start), str(error)) from error

    def _line(self, at: int) -> int:
        return self._text.count("\n", 0, at) + 1

    def _bad(self, start: int) -> BadLine:
        line = self._text[start:].partition("\n")[0]
        return BadLine(self._line(start), f"{quoted(line)} is not NAME=value.")
