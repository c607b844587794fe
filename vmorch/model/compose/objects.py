"""Forms with declared keys, and the choice between forms by the kind of a node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vmorch.model.compose.availability import NOT_YET, not_available
from vmorch.model.compose.containers import NULL, merge_fields, read_part
from vmorch.model.compose.forms import Form, Schema
from vmorch.model.compose.nodes import (
    Field,
    Fields,
    Items,
    Node,
    Scalar,
    describe,
    is_null,
    quoted,
)
from vmorch.model.compose.reading import Reading, Wrong, did_you_mean, join


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


@dataclass(frozen=True)
class Object(Form):
    """A mapping with declared keys, and `x-` keys, which are the user's own.

    `name` begins this object's keys in the table of what is not available yet. `refused` gives
    the reason for each key that Compose has and vmorch does not. `short` is the scalar (or list)
    form, and what it stands for. `build` makes a value of the `Values`, and may raise Wrong.
    Of the keys in `one_of`, a mapping has exactly one.
    """

    name: str
    keys: Mapping[str, Key]
    refused: Mapping[str, str] = field(default_factory=dict)
    short: tuple[Form, Callable[[Node], Node]] | None = None
    build: Callable[[Values], Any] = lambda values: values
    empty: bool = False
    one_of: tuple[str, ...] = ()

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
        if missing and not reading.partial:
            raise Wrong(f"The key '{missing[0]}' is missing here.")
        if self.one_of and not reading.partial:
            self._check_one_of(found)
        return self.build(values)

    def _check_one_of(self, node: Fields) -> None:
        given = [key for key in self.one_of if key in node.fields]
        if len(given) != 1 and not node.fields.keys() & self.refused.keys():
            raise Wrong(f"A {self.name} needs one of {', '.join(map(repr, self.one_of))}.")

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
        if self.one_of:
            schema["oneOf"] = [{"required": [name]} for name in self.one_of]
        others = [self.short[0].schema()] if self.short else []
        others += [NULL] if self.empty else []
        return {"anyOf": [schema, *others]} if others else schema


def _optional(key: Key) -> Schema:
    schema = key.form.schema()
    return schema if key.required else {"anyOf": [NULL, schema]}


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
