"""A YAML document as plain values, each with its place in the user's file."""

from __future__ import annotations

import enum
from dataclasses import dataclass

Plain = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; `line` and `column` count from 1, 0 when there is none."""

    file: str
    line: int = 0
    column: int = 0


class Tag(enum.Enum):
    """What Compose lets an overriding file say about a value beside the value itself."""

    NONE = ""
    RESET = "!reset"
    OVERRIDE = "!override"


@dataclass(frozen=True, slots=True)
class Scalar:
    """`text` is the value as written (`0644`, `1.10`), which for strings is the value."""

    mark: Mark
    value: Plain
    text: str
    tag: Tag = Tag.NONE


@dataclass(frozen=True, slots=True)
class Items:
    mark: Mark
    items: tuple[Node, ...]
    tag: Tag = Tag.NONE


@dataclass(frozen=True, slots=True)
class Field:
    key_mark: Mark
    node: Node

    @property
    def mark(self) -> Mark:
        """Where a person looks for this field: at a scalar, else at the key above the rest."""
        if isinstance(self.node, Scalar) and self.node.value is not None:
            return self.node.mark
        return self.key_mark


@dataclass(frozen=True, slots=True)
class Fields:
    mark: Mark
    fields: dict[str, Field]
    tag: Tag = Tag.NONE


Node = Scalar | Items | Fields


def text_scalar(mark: Mark, text: str) -> Scalar:
    return Scalar(mark, text, text)


def null_scalar(mark: Mark) -> Scalar:
    return Scalar(mark, None, "")


def is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def describe(node: Node) -> str:
    """What a message calls this value: "a list", "the number 3", "'x'"."""
    match node:
        case Items():
            return "a list"
        case Fields():
            return "a mapping"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=bool()):
            return f"the boolean {node.text}"
        case Scalar(value=str()):
            return quoted(node.text)
        case _:
            return f"the number {quoted(node.text)[1:-1]}"


def one_line(text: str, limit: int = 200) -> str:
    """`text` without what would break a line or a terminal, and short enough for a message."""
    shown = "".join(c if c.isprintable() else "?" for c in text[: limit + 1])
    return f"{shown[:limit]}…" if len(shown) > limit else shown


def quoted(text: str) -> str:
    return f"'{one_line(text, 60)}'"


def to_plain(node: Node) -> object:
    """The bare value, without places."""
    match node:
        case Scalar(value=value):
            return value
        case Items(items=items):
            return [to_plain(item) for item in items]
        case Fields(fields=fields):
            return {key: to_plain(field.node) for key, field in fields.items()}
