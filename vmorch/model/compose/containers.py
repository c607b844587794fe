"""Forms that hold others of one kind: lists, and mappings with keys of the user's choice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vmorch.model.compose.forms import Form, Schema, Word
from vmorch.model.compose.nodes import (
    Field,
    Fields,
    Items,
    Mark,
    Node,
    Scalar,
    Tag,
    describe,
    is_null,
    null_scalar,
    quoted,
    text_scalar,
)
from vmorch.model.compose.reading import Reading, Wrong, join

MOST_ITEMS = 1000
NULL: Schema = {"type": "null"}


def read_part(form: Form, node: Node, mark: Mark, path: str, reading: Reading) -> tuple[Any, ...]:
    """The value of a part as a 1-tuple; empty when it is wrong, which `reading` then knows."""
    reading.note(path, mark)
    try:
        return (form.read(node, path, reading),)
    except Wrong as wrong:
        reading.add(wrong.mark or mark, path, wrong.message)
        return ()


@dataclass(frozen=True)
class ListOf(Form):
    """A list. Files' lists are appended; of items with the same `key` the later one stays."""

    item: Form
    key: Callable[[Node], object] | None = None

    @property
    def expects(self) -> str:  # type: ignore[override]
        return "a list"

    def read(self, node: Node, path: str, reading: Reading) -> list[Any]:
        if not isinstance(node, Items):
            raise Wrong(f"Expected a list, found {describe(node)}.")
        if len(node.items) > MOST_ITEMS:
            raise Wrong(f"The list has more than {MOST_ITEMS} items.")
        parts = [
            read_part(self.item, item, item.mark, f"{path}[{i}]", reading)
            for i, item in enumerate(node.items)
        ]
        return [part[0] for part in parts if part]

    def merge(self, old: Node, new: Node) -> Node:
        if not (isinstance(old, Items) and isinstance(new, Items)):
            return new
        return Items(new.mark, tuple(appended((*old.items, *new.items), self.key)))

    def schema(self) -> Schema:
        return {"type": "array", "items": self.item.schema(), "maxItems": MOST_ITEMS}


def appended(items: tuple[Node, ...], key: Callable[[Node], object] | None) -> Iterator[Node]:
    """All items; of those with the same key only the last, in the place of the first."""
    if key is None:
        yield from items
        return
    kept: dict[object, Node] = {}
    for item in items:
        kept[key(item)] = item
    yield from kept.values()


@dataclass(frozen=True)
class OneOrMany(Form):
    """A single value, or a list of them; read as a list. Files' values are appended, but two
    single mappings are merged into one if `merge_single` is set."""

    many: ListOf
    merge_single: bool = False

    @property
    def expects(self) -> str:  # type: ignore[override]
        return f"{self.many.item.expects}, or a list of them"

    def read(self, node: Node, path: str, reading: Reading) -> list[Any]:
        if isinstance(node, Items):
            return self.many.read(node, path, reading)
        return [self.many.item.read(node, path, reading)]

    def merge(self, old: Node, new: Node) -> Node:
        if self.merge_single and isinstance(old, Fields) and isinstance(new, Fields):
            return self.many.item.merge(old, new)
        return self.many.merge(_as_items(old), _as_items(new))

    def schema(self) -> Schema:
        return {"anyOf": [self.many.item.schema(), self.many.schema()]}


def _as_items(node: Node) -> Node:
    return node if isinstance(node, Items) else Items(node.mark, (node,))


@dataclass(frozen=True)
class MapOf(Form):
    """A mapping with keys of the user's choice, read as a dict. With `separators`, a list of
    KEY=VALUE is another way to write it; a list item without one has no value, as has a null,
    which `nullable` allows and reads as None."""

    value: Form
    key_pattern: str = r"[^\n]+"
    key_expects: str = "a name"
    separators: str | None = None
    nullable: bool = False

    @property
    def expects(self) -> str:  # type: ignore[override]
        return "a mapping" if self.separators is None else "a mapping or a list"

    def read(self, node: Node, path: str, reading: Reading) -> dict[str, Any]:
        if isinstance(node, Items) and self.separators is not None:
            for i, item in enumerate(node.items):
                if not self._is_entry(item):
                    message = f"Expected {self._entry()}, found {describe(item)}."
                    reading.add(item.mark, f"{path}[{i}]", message)
        found = self._as_fields(node)
        if not isinstance(found, Fields):
            raise Wrong(f"Expected {self.expects}, found {describe(node)}.")
        return dict(self._pairs(found, path, reading))

    def _pairs(self, node: Fields, path: str, reading: Reading) -> Iterator[tuple[str, Any]]:
        for key, item in node.fields.items():
            where = join(path, key)
            if not re.fullmatch(self.key_pattern, key) or "\0" in key:
                reading.add(item.key_mark, where, f"{quoted(key)} is not {self.key_expects}.")
            elif is_null(item.node) and self.nullable:
                reading.note(where, item.mark)
                yield key, None
            else:
                for value in read_part(self.value, item.node, item.mark, where, reading):
                    yield key, value

    def _entry(self) -> str:
        if not self.separators:
            return self.key_expects
        return f"'KEY{self.separators[0]}VALUE'"

    def _is_entry(self, item: Node) -> bool:
        if not isinstance(item, Scalar) or not isinstance(item.value, str):
            return False
        key, value = self._split(item.text)
        has_value = value is not None or self.nullable or not self.separators
        return has_value and re.fullmatch(self.key_pattern, key) is not None

    def _split(self, text: str) -> tuple[str, str | None]:
        places = [text.find(c) for c in self.separators or "" if c in text]
        if not places:
            return text, None
        return text[: min(places)], text[min(places) + 1 :]

    def _as_fields(self, node: Node) -> Node:
        """The list form as a mapping, without the items that are no entries."""
        if not isinstance(node, Items) or self.separators is None:
            return node
        fields: dict[str, Field] = {}
        for item in node.items:
            if self._is_entry(item) and isinstance(item, Scalar):
                key, value = self._split(item.text)
                scalar = null_scalar(item.mark) if value is None else text_scalar(item.mark, value)
                fields[key] = Field(item.mark, scalar)
        return Fields(node.mark, fields, node.tag)

    def merge(self, old: Node, new: Node) -> Node:
        earlier, later = self._as_fields(old), self._as_fields(new)
        return merge_fields(earlier, later, lambda key: self.value, null_says=self.nullable)

    def schema(self) -> Schema:
        value = self.value.schema()
        mapping = {
            "type": "object",
            "propertyNames": {"pattern": f"^(?:{self.key_pattern})$"},
            "additionalProperties": {"anyOf": [NULL, value]} if self.nullable else value,
        }
        if self.separators is None:
            return mapping
        return {"anyOf": [mapping, {"type": "array", "items": self._entry_schema()}]}

    def _entry_schema(self) -> Schema:
        pattern = f"(?:{self.key_pattern})"
        if self.separators:
            value = (self.value.pattern if isinstance(self.value, Word) else "") or r"[\s\S]*"
            pattern += f"[{self.separators}](?:{value})"
        if self.separators and self.nullable:
            pattern = f"{pattern}|{self.key_pattern}"
        return {"type": "string", "pattern": f"^(?:{pattern})$|\\$"}


def merge_fields(
    old: Node, new: Node, form_of: Callable[[str], Form | None], *, null_says: bool = False
) -> Node:
    """Two mappings as one, key by key, with what the tags of the later one ask for. A null says
    nothing, so the earlier value stays, unless `null_says` something of its own."""
    if new.tag is Tag.OVERRIDE or not (isinstance(old, Fields) and isinstance(new, Fields)):
        return old if is_null(new) and new.tag is not Tag.OVERRIDE else new
    merged = dict(old.fields)
    for key, later in new.fields.items():
        earlier = merged.get(key)
        form = form_of(key)
        if later.node.tag is Tag.RESET:
            merged.pop(key, None)
        elif earlier is None or form is None or later.node.tag is Tag.OVERRIDE:
            merged[key] = later
        elif not is_null(later.node) or null_says:
            merged[key] = Field(later.key_mark, form.merge(earlier.node, later.node))
    return Fields(new.mark, merged)
