"""Words of an instruction: where they end, what their quotes mean, and $variables in them.

Docker's rules (BuildKit `frontend/dockerfile/shell/lex.go`): no substitution between single
quotes; the escape character protects any character outside quotes, and `"`, `$` and itself
between double ones; an unset variable is empty. Patterns know `*` and `?`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#]")
_DEEPEST = 50  # forms within forms


class BadWord(ValueError):
    """A word cannot be read or substituted; the text says why."""


def raw_words(text: str, escape: str) -> list[str]:
    """Split at white space outside quotes. Quotes and escapes stay in the words."""
    words: list[str] = []
    current, quote, at = "", "", 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            current += text[at : at + 2]
            at += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char.isspace():
            if current:
                words.append(current)
            current, at = "", at + 1
            continue
        current += char
        at += 1
    return [*words, current] if current else words


def unquoted(text: str, escape: str) -> str:
    """Without quotes and escapes; nothing is substituted."""
    out, quote, at = "", "", 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            out, at = out + text[at + 1], at + 2
            continue
        if quote or char not in "'\"":
            out += "" if char == quote else char
            quote = "" if char == quote else quote
        else:
            quote = char
        at += 1
    return out


class Substitution:
    """Substitutes with these variables and removes quotes."""

    def __init__(self, variables: Mapping[str, str], escape: str = "\\") -> None:
        self.variables = variables
        self.escape = escape
        self._depth = 0

    def word(self, text: str) -> str:
        """The whole text as one word.

        Raises:
            BadWord: an unknown form of `${…}`, a missing `}`, an unclosed quote, or `${x:?…}`.
        """
        self._depth = 0
        value, _ = self._until(text, 0, "")
        return value

    def words(self, text: str) -> list[str]:
        return [self.word(word) for word in raw_words(text, self.escape)]

    def literal(self, text: str) -> str:
        """Substitutes but leaves quotes as they are: the body of a heredoc."""
        out, at = "", 0
        while at < len(text):
            if text[at] == self.escape and text[at + 1 : at + 2] in {"$", self.escape}:
                out += text[at + 1]
                at += 2
            elif text[at] == "$":
                value, at = self._variable(text, at)
                out += value
            else:
                out += text[at]
                at += 1
        return out

    def _until(self, text: str, at: int, end: str, *, raw: bool = False) -> tuple[str, int]:
        """Up to `end`. `raw`: escapes stay, for the pattern that this is."""
        out = ""
        while at < len(text):
            char = text[at]
            if end and char == end:
                return out, at
            if char == "'":
                close = text.find("'", at + 1)
                if close < 0:
                    raise BadWord("a single quote is not closed")
                out, at = out + text[at + 1 : close], close + 1
            elif char == '"':
                value, at = self._double_quoted(text, at + 1)
                out += value
            elif char == "$":
                value, at = self._variable(text, at)
                out += value
            elif char == self.escape and at + 1 < len(text):
                out, at = out + text[at + (not raw) : at + 2], at + 2
            else:
                out, at = out + char, at + 1
        if end:
            raise BadWord(f"'${{' without its '{end}'")
        return out, at

    def _double_quoted(self, text: str, at: int) -> tuple[str, int]:
        out = ""
        while at < len(text):
            char = text[at]
            if char == '"':
                return out, at + 1
            if char == "$":
                value, at = self._variable(text, at)
                out += value
            elif char == self.escape and text[at + 1 : at + 2] in {'"', "$", self.escape}:
                out, at = out + text[at + 1], at + 2
            else:
                out, at = out + char, at + 1
        raise BadWord("a double quote is not closed")

    def _variable(self, text: str, at: int) -> tuple[str, int]:
        """`at` is the `$`; returns the value and where the text goes on."""
        at += 1
        braces = text[at : at + 1] == "{"
        match = _NAME.match(text, at + braces)
        if match is None:
            if braces:
                raise BadWord(f"'${text[at:]}' names no variable")
            return "$", at
        name, at = match.group(), match.end()
        value = self.variables.get(name)
        if not braces:
            return value or "", at
        if text[at : at + 1] == "}":
            return value or "", at + 1
        return self._modified(text, at, name, value)

    def _modified(self, text: str, at: int, name: str, value: str | None) -> tuple[str, int]:
        """`${name:-word}` and its kin; without the colon only an unset variable counts."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise BadWord(f"more than {_DEEPEST} forms of '${{…}}' in one word")
        colon = text[at : at + 1] == ":"
        at += colon
        operator = text[at : at + 1]
        if not operator:
            raise BadWord("'${' without its '}'")
        if not colon and operator in {"#", "%"}:
            longest = text[at + 1 : at + 2] == operator
            pattern, at = self._until(text, at + 1 + longest, "}", raw=True)
            pieces = self._pieces(pattern)
            return _trimmed(value or "", pieces, longest, end=operator == "%"), at + 1
        if not colon and operator == "/":
            every = text[at + 1 : at + 2] == "/"
            pattern, at = self._until(text, at + 1 + every, "/", raw=True)
            new, at = self._until(text, at + 1, "}")
            expression = _expression(self._pieces(pattern), longest=True)
            return expression.sub(lambda _: new, value or "", count=not every), at + 1
        if operator not in {"-", "+", "?"}:
            raise BadWord(f"'${{{name}{':' if colon else ''}{operator}…}}' is no known form")
        word, at = self._until(text, at + 1, "}")
        is_set = bool(value) if colon else value is not None
        match operator:
            case "-":
                result = (value or "") if is_set else word
            case "+":
                result = word if is_set else ""
            case _:
                if not is_set:
                    raise BadWord(f"the variable '{name}' is not set: {word or 'it must be'}")
                result = value or ""
        return result, at + 1

    def _pieces(self, pattern: str) -> list[list[str]]:
        """What stands between the `*` of a pattern: each character as a regular expression."""
        pieces: list[list[str]] = [[]]
        at = 0
        while at < len(pattern):
            char = pattern[at]
            if char == self.escape and at + 1 < len(pattern):
                at += 1
                pieces[-1].append(re.escape(pattern[at]))
            elif char == "*":
                pieces.append([])
            else:
                pieces[-1].append("." if char == "?" else re.escape(char))
            at += 1
        return pieces


def _expression(pieces: list[list[str]], *, longest: bool) -> re.Pattern[str]:
    """Every `*` but the last takes as little as it can and never tries again: that gives the same
    as trying all, in a time that does not explode."""
    first, *rest = ("".join(piece) for piece in pieces)
    stars = [".*?"] * len(rest)
    if longest and stars:
        stars[-1] = ".*"
    tail = "".join(f"(?>{star}{piece})" for star, piece in zip(stars, rest, strict=True))
    return re.compile(first + tail, re.DOTALL)


def _trimmed(value: str, pieces: list[list[str]], longest: bool, *, end: bool) -> str:
    """Without what the pattern matches at the beginning, or at the end."""
    if end:
        pieces = [piece[::-1] for piece in reversed(pieces)]
        value = value[::-1]
    match = _expression(pieces, longest=longest).match(value)
    rest = value[match.end() :] if match else value
    return rest[::-1] if end else rest
