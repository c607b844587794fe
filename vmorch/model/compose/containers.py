"""Forms that hold other forms: lists, maps with free keys, objects with declared keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vmorch.model.compose.availability import NOT_YET, not_available
from vmorch.model.compose.forms import Form, Schema
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
from vmorch.model.compose.reading import Reading, Wrong, did_you_mean, join

_NULL: Schema = {"type": "null"}


def read_part(form: Form, node: Node, mark: Mark, path: str, reading: Reading) -> tuple[Any, ...]:
    """The value of a part as a 1-tuple; empty when it is wrong, which `reading` then knows."""
    reading.note(path, mark)
    try:
        return (form.read(node, path, reading),)
    except Wrong as wrong:
        reading.add(wrong.mark or mark, path, wrong.message)
        return ()


def _mark_of(node: Node) -> Mark:
    return node.mark


@dataclass(frozen=True)
class ListOf(Form):
    """A list. Files' lists are appended; of items with the same `key` the later one stays."""

    item: Form
    key: Callable[[Node], object] | None = None
    least: int = 0

    @property
    def expects(self) -> str:  # type: ignore[override]
        return "a list"

    def read(self, node: Node, path: str, reading: Reading) -> list[Any]:
        if not isinstance(node, Items):
            raise Wrong(f"Expected a list, found {describe(node)}.")
        if len(node.items) < self.least:
            raise Wrong("The list must not be empty.")
        parts = [
            read_part(self.item, item, _mark_of(item), f"{path}[{i}]", reading)
            for i, item in enumerate(node.items)
        ]
        return [part[0] for part in parts if part]

    def merge(self, old: Node, new: Node) -> Node:
        if not (isinstance(old, Items) and isinstance(new, Items)):
            return new
        return Items(new.mark, tuple(appended((*old.items, *new.items), self.key)))

    def schema(self) -> Schema:
        schema: Schema = {"type": "array", "items": self.item.schema()}
        return schema | ({"minItems": self.least} if self.least else {})


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
                    reading.add(_mark_of(item), f"{path}[{i}]", message)
        found = self._as_fields(node)
        if not isinstance(found, Fields):
            raise Wrong(f"Expected {self.expects}, found {describe(node)}.")
        return dict(self._pairs(found, path, reading))

    def _pairs(self, node: Fields, path: str, reading: Reading) -> Iterator[tuple[str, Any]]:
        for key, item in node.fields.items():
            where = join(path, key)
            if not re.fullmatch(self.key_pattern, key):
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
        return merge_fields(self._as_fields(old), self._as_fields(new), lambda key: self.value)

    def schema(self) -> Schema:
        value = self.value.schema()
        mapping = {
            "type": "object",
            "propertyNames": {"pattern": f"^(?:{self.key_pattern})$"},
            "additionalProperties": {"anyOf": [_NULL, value]} if self.nullable else value,
        }
        if self.separators is None:
            return mapping
        return {"anyOf": [mapping, {"type": "array", "items": self._entry_schema()}]}

    def _entry_schema(self) -> Schema:
        pattern = f"(?:{self.key_pattern})"
        if self.separators:
            pattern += f"[{self.separators}](?:.|\\n)*"
        if self.separators and self.nullable:
            pattern = f"{pattern}|{self.key_pattern}"
        return {"type": "string", "pattern": f"^(?:{pattern})$|\\$"}


def merge_fields(old: Node, new: Node, form_of: Callable[[str], Form | None]) -> Node:
    """Two mappings as one, key by key, with what the tags of the later one ask for."""
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
        elif not is_null(later.node):
            merged[key] = Field(later.key_mark, form.merge(earlier.node, later.node))
    return Fields(new.mark, merged)


@dataclass(frozen=True)
class Key:
    """A declared key of an object. `about` is for the editor that shows the schema."""

    form: Form
    about: str
    required: bool = False


class Values:
    """What an object's keys say, by name; absent where not given, null or wrong."""

    def __init__(self, found: dict[str, Any], path: str, node: Fields) -> None:
        self._found = found
        self.path = path
        self.node = node

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def get(self, name: str, default: Any = None) -> Any:
        return self._found.get(name, default)

    def names(self) -> frozenset[str]:
        return frozenset(self._found)


@dataclass(frozen=True)
class Object(Form):
    """A mapping with declared keys, and `x-` keys, which are the user's own.

    `name` begins this object's keys in the table of what is not available yet. `refused` gives
    the reason for each key that Compose has and vmorch does not. `short` is the scalar (or list)
    form, and what it stands for. `build` makes a value of the `Values`, and may raise Wrong.
    """

    name: str
    keys: Mapping[str, Key]
    refused: Mapping[str, str] = field(default_factory=dict)
    short: tuple[Form, Callable[[Node], Fields]] | None = None
    build: Callable[[Values], Any] = lambda values: values
    empty: bool = False

    @property
    def expects(self) -> str:  # type: ignore[override]
        return f"{self.short[0].expects}, or a mapping" if self.short else "a mapping"

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        if self.short and not isinstance(node, Fields):
            self.short[0].read(node, path, reading)
        found = self._as_fields(node)
        if not isinstance(found, Fields):
            raise Wrong(f"Expected {self.expects}, found {describe(node)}.")
        values = Values(dict(self._pairs(found, path, reading)), path, found)
        missing = [k for k, key in self.keys.items() if key.required and k not in found.fields]
        if missing:
            raise Wrong(f"The key '{missing[0]}' is missing here.")
        return self.build(values)

    def _pairs(self, node: Fields, path: str, reading: Reading) -> Iterator[tuple[str, Any]]:
        for name, item in node.fields.items():
            where = join(path, name)
            key = self.keys.get(name)
            if key is None:
                self._strange(name, item, where, reading)
                continue
            reading.note(where, item.mark)
            if is_null(item.node) and not key.required:
                continue
            for value in read_part(key.form, item.node, item.mark, where, reading):
                yield name, value
            if f"{self.name}.{name}" in NOT_YET:
                reading.add(item.key_mark, where, not_available(name))

    def _strange(self, name: str, item: Field, where: str, reading: Reading) -> None:
        if name.startswith("x-"):
            return
        if name in self.refused:
            message = f"'{name}' is refused: {self.refused[name]}"
        else:
            known = [key for key in self.keys if f"{self.name}.{key}" not in NOT_YET]
            message = f"There is no key {quoted(name)} here.{did_you_mean(name, known)}"
        reading.add(item.key_mark, where, message)

    def _as_fields(self, node: Node) -> Node:
        if isinstance(node, Fields) or self.short is None:
            if self.empty and is_null(node):
                return Fields(node.mark, {}, node.tag)
            return node
        return self.short[1](node)

    def merge(self, old: Node, new: Node) -> Node:
        return merge_fields(self._as_fields(old), self._as_fields(new), self._form_of)

    def _form_of(self, name: str) -> Form | None:
        key = self.keys.get(name)
        return key.form if key else None

    def schema(self) -> Schema:
        properties = {
            name: {"description": key.about} | _optional(key)
            for name, key in self.keys.items()
            if f"{self.name}.{name}" not in NOT_YET
        }
        schema: Schema = {
            "type": "object",
            "properties": properties,
            "patternProperties": {"^x-": {}},
            "additionalProperties": False,
        }
        required = [name for name, key in self.keys.items() if key.required]
        if required:
            schema["required"] = required
        others = [self.short[0].schema()] if self.short else []
        others += [_NULL] if self.empty else []
        return {"anyOf": [schema, *others]} if others else schema


def _optional(key: Key) -> Schema:
    schema = key.form.schema()
    return schema if key.required else {"anyOf": [_NULL, schema]}


@dataclass(frozen=True)
class Either(Form):
    """A different form for each of scalar, list and mapping; absent ones are wrong."""

    scalar: Form | None = None
    items: Form | None = None
    fields: Form | None = None

    @property
    def expects(self) -> str:  # type: ignore[override]
        return " or ".join(form.expects for form in self._forms())

    def _forms(self) -> list[Form]:
        return [form for form in (self.scalar, self.items, self.fields) if form]

    def _form_of(self, node: Node) -> Form | None:
        match node:
            case Scalar():
                return self.scalar
            case Items():
                return self.items
        return self.fields

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        form = self._form_of(node)
        if form is None:
            raise Wrong(f"Expected {self.expects}, found {describe(node)}.")
        return form.read(node, path, reading)

    def schema(self) -> Schema:
        return {"anyOf": [form.schema() for form in self._forms()]}


@dataclass(frozen=True)
class Replaced(Form):
    """`form`, but a later file's value stands instead of an earlier one's."""

    form: Form

    @property
    def expects(self) -> str:  # type: ignore[override]
        return self.form.expects

    def read(self, node: Node, path: str, reading: Reading) -> Any:
        return self.form.read(node, path, reading)

    def schema(self) -> Schema:
        return self.form.schema()
