"""`${VAR}` in the values of a file, by Compose's rules.

    $VAR  ${VAR}        the value, or nothing (with a warning) when unset
    ${VAR:-default}     default when unset or empty       ${VAR-default}   only when unset
    ${VAR:?message}     an error when unset or empty      ${VAR?message}   only when unset
    ${VAR:+other}       other when set and not empty      ${VAR+other}     when set
    $$                  one dollar sign

`default`, `message` and `other` may hold variables themselves. Keys are left as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from vmorch.model.compose.nodes import Field, Fields, Items, Node, Scalar, quoted
from vmorch.model.compose.reading import Reading, join

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACE = re.compile(r"[{}]")
_OPERATOR = re.compile(r":?[-?+]")
_DEPTH_LIMIT = 8
_LENGTH_LIMIT = 1024 * 1024  # characters that one file may grow to


class BadTemplate(Exception):
    """The text cannot be interpolated; says why as one sentence."""


def expand(
    text: str, variables: Mapping[str, str], *, unset: Callable[[str], None] | None = None
) -> str:
    """`text` with its variables replaced; `unset` hears of each that had no value.

    Raises:
        BadTemplate: malformed, or a required variable is missing.
    """
    return _Expansion(variables, unset or (lambda name: None)).expand(text, 0)


class _Expansion:
    def __init__(self, variables: Mapping[str, str], unset: Callable[[str], None]) -> None:
        self._variables = variables
        self._unset = unset
        self._length = 0

    def expand(self, text: str, depth: int) -> str:
        if depth > _DEPTH_LIMIT:
            raise BadTemplate(f"Variables are nested more than {_DEPTH_LIMIT} levels deep.")
        pieces: list[str] = []
        at = 0
        while (dollar := text.find("$", at)) >= 0:
            pieces.append(text[at:dollar])
            piece, at = self._one(text, dollar, depth)
            self._length += len(piece)
            if self._length > _LENGTH_LIMIT:
                raise BadTemplate(f"The value grows beyond {_LENGTH_LIMIT} characters.")
            pieces.append(piece)
        return "".join(pieces) + text[at:]

    def _one(self, text: str, dollar: int, depth: int) -> tuple[str, int]:
        """What the `$` at `dollar` stands for, and where the text goes on."""
        at = dollar + 1
        if text.startswith("$", at):
            return "$", at + 1
        if text.startswith("{", at):
            return self._braced(text, at, depth)
        name = _NAME.match(text, at)
        if name is None:
            raise BadTemplate(
                f"{quoted(text[dollar : dollar + 8])} is no variable; write $$ for a dollar sign."
            )
        return self._plain(name[0]), name.end()

    def _braced(self, text: str, brace: int, depth: int) -> tuple[str, int]:
        end = _closing(text, brace)
        inside = text[brace + 1 : end]
        name = _NAME.match(inside)
        rest = inside[name.end() :] if name else inside
        if name is None or (rest and not _OPERATOR.match(rest)):
            raise BadTemplate(
                f"{quoted(text[brace - 1 : end + 1])} is no variable; "
                "write ${NAME} or ${NAME:-default}, or $$ for a dollar sign."
            )
        if not rest:
            return self._plain(name[0]), end + 1
        return self._operator(name[0], rest, depth), end + 1

    def _operator(self, name: str, rest: str, depth: int) -> str:
        value = self._variables.get(name)
        empty_counts = not rest.startswith(":")
        operator, argument = (rest[0], rest[1:]) if empty_counts else (rest[1], rest[2:])
        given = value is not None and (empty_counts or value != "")
        match operator:
            case "-":
                return value if value is not None and given else self.expand(argument, depth + 1)
            case "+":
                return self.expand(argument, depth + 1) if given else ""
            case _:
                if value is not None and given:
                    return value
                why = self.expand(argument, depth + 1)
                raise BadTemplate(
                    f"The variable '{name}' must be set" + (f": {why}" if why else ".")
                )

    def _plain(self, name: str) -> str:
        value = self._variables.get(name)
        if value is None:
            self._unset(name)
        return value or ""


def _closing(text: str, brace: int) -> int:
    depth = 0
    for found in _BRACE.finditer(text, brace):
        depth += 1 if found[0] == "{" else -1
        if depth == 0:
            return found.start()
    raise BadTemplate(f"{quoted(text[brace - 1 : brace + 99])} has no closing brace.")


class Interpolator:
    """Replaces the variables in all values of a document; problems go to `reading`."""

    def __init__(
        self,
        variables: Mapping[str, str],
        reading: Reading,
        unset: Callable[[str], None],
    ) -> None:
        self._variables = variables
        self._reading = reading
        self._unset = unset
        self._length = 0

    def interpolate(self, node: Node, path: str = "") -> Node:
        match node:
            case Fields(mark=mark, fields=fields, tag=tag):
                changed = {
                    key: Field(f.key_mark, self.interpolate(f.node, join(path, key)))
                    for key, f in fields.items()
                }
                return Fields(mark, changed, tag)
            case Items(mark=mark, items=items, tag=tag):
                parts = (self.interpolate(item, f"{path}[{i}]") for i, item in enumerate(items))
                return Items(mark, tuple(parts), tag)
            case Scalar(value=str()) if "$" in node.text:
                return self._scalar(node, path)
        return node

    def _scalar(self, node: Scalar, path: str) -> Scalar:
        try:
            text = expand(node.text, self._variables, unset=self._unset)
            self._length += len(text)
            if self._length > _LENGTH_LIMIT:
                raise BadTemplate(
                    f"With its variables, the file exceeds {_LENGTH_LIMIT} characters."
                )
        except BadTemplate as error:
            self._reading.add(node.mark, path, str(error))
            text = ""
        return Scalar(node.mark, text, text, node.tag)
