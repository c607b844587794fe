"""Parser events to nodes, without recursion and with every bound kept on the way.

PyYAML's composer recurses as deep as the document does, and lets duplicate keys and any tag
pass; so the nodes are built from the parser's events.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

import yaml

from vmorch.model.compose.nodes import Field, Fields, Items, Mark, Node, Plain, Scalar, Tag, quoted
from vmorch.model.compose.reading import Reading, join
from vmorch.model.compose.scalars import resolve

DEPTH_LIMIT = 64
DOCUMENT_LIMIT = 64
NODE_LIMIT = 25_000  # with every alias counted as often as it is used

_YAML_TAG = "tag:yaml.org,2002:"
_COLLECTION_TAGS = {None, "!", _YAML_TAG + "map", _YAML_TAG + "seq"}
_SCALAR_TAGS: dict[str, type] = {
    _YAML_TAG + "int": int,
    _YAML_TAG + "float": float,
    _YAML_TAG + "bool": bool,
    _YAML_TAG + "null": type(None),
}
_OWN_TAGS = {"!reset": Tag.RESET, "!override": Tag.OVERRIDE}
_SURROGATE = re.compile("[\ud800-\udfff]")


class Stop(Exception):
    """The document cannot be read any further."""

    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message


@dataclass(frozen=True, slots=True)
class _Sized:
    """A finished node with the size and depth it has when all its aliases are written out."""

    node: Node
    size: int = 1
    depth: int = 1


@dataclass(slots=True)
class _Frame:
    """A collection that is still open. `key` is a mapping's key that waits for its value."""

    mark: Mark
    is_mapping: bool
    anchor: str | None
    tag: Tag
    items: list[Node] = field(default_factory=list)
    fields: dict[str, Field] = field(default_factory=dict)
    merged: list[Fields] = field(default_factory=list)
    key: Scalar | None = None
    size: int = 1
    depth: int = 1


class Builder:
    """Takes the events of one file and keeps its finished documents in `documents`."""

    def __init__(self, name: str, reading: Reading) -> None:
        self._name = name
        self._reading = reading
        self._frames: list[_Frame] = []
        self._anchors: dict[str, _Sized | None] = {}
        self.documents: list[Node] = []

    def take(self, event: yaml.Event) -> None:
        """Raises Stop."""
        where = event.start_mark
        mark = Mark(self._name, where.line + 1, where.column + 1) if where else Mark(self._name)
        match event:
            case yaml.DocumentStartEvent():
                self._anchors = {}
            case yaml.AliasEvent():
                self._add(self._alias(event.anchor or "", mark), mark)
            case yaml.ScalarEvent():
                sized = _Sized(self._scalar(event, mark))
                if event.anchor:
                    self._anchors[event.anchor] = sized
                self._add(sized, mark)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._open(event, mark)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._close()

    def _open(self, event: yaml.CollectionStartEvent, mark: Mark) -> None:
        if len(self._frames) >= DEPTH_LIMIT:
            raise Stop(mark, f"The file is nested more than {DEPTH_LIMIT} levels deep.")
        tag = _OWN_TAGS.get(event.tag or "", Tag.NONE)
        if tag is Tag.NONE and event.tag not in _COLLECTION_TAGS:
            self._refuse_tag(event.tag or "", mark)
        if event.anchor:
            self._anchors[event.anchor] = None
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        self._frames.append(_Frame(mark, is_mapping, event.anchor, tag))

    def _close(self) -> None:
        frame = self._frames.pop()
        node: Node
        if frame.is_mapping:
            fields = {**_inherited(frame.merged), **frame.fields} if frame.merged else frame.fields
            node = Fields(frame.mark, fields, frame.tag)
        else:
            node = Items(frame.mark, tuple(frame.items), frame.tag)
        sized = _Sized(node, frame.size, frame.depth)
        if frame.anchor:
            self._anchors[frame.anchor] = sized
        self._add(sized, frame.mark)

    def _alias(self, anchor: str, mark: Mark) -> _Sized:
        if anchor not in self._anchors:
            raise Stop(mark, f"There is no anchor '&{anchor}' before this alias.")
        sized = self._anchors[anchor]
        if sized is None:
            raise Stop(mark, f"The alias '*{anchor}' contains itself.")
        return sized

    def _add(self, sized: _Sized, mark: Mark) -> None:
        if not self._frames:
            self.documents.append(sized.node)
            if len(self.documents) > DOCUMENT_LIMIT:
                raise Stop(mark, f"The file has more than {DOCUMENT_LIMIT} documents.")
            return
        frame = self._frames[-1]
        frame.size += sized.size
        frame.depth = max(frame.depth, sized.depth + 1)
        if frame.size > NODE_LIMIT:
            raise Stop(
                mark, f"The file has more than {NODE_LIMIT} values, its aliases written out."
            )
        if frame.depth + len(self._frames) > 2 * DEPTH_LIMIT:
            raise Stop(mark, "With its aliases written out, the file is nested too deep.")
        if not frame.is_mapping:
            frame.items.append(sized.node)
        elif frame.key is None:
            frame.key = self._key(sized.node, mark)
        else:
            self._set(frame, frame.key, sized.node)
            frame.key = None

    def _key(self, node: Node, mark: Mark) -> Scalar:
        if not isinstance(node, Scalar):
            raise Stop(mark, "A key must be text, not a list or a mapping.")
        if node.value is None:
            self._reading.add(mark, self._path(), "A key is empty.")
        return Scalar(mark, node.value, node.text)

    def _set(self, frame: _Frame, key: Scalar, node: Node) -> None:
        if key.text == "<<":
            self._merge(frame, node)
        elif key.text in frame.fields:
            first = frame.fields[key.text].key_mark.line
            message = f"The key {quoted(key.text)} stands here twice; the first is in line {first}."
            self._reading.add(key.mark, self._path(), message)
        else:
            frame.fields[key.text] = Field(key.mark, node)

    def _merge(self, frame: _Frame, node: Node) -> None:
        sources = node.items if isinstance(node, Items) else (node,)
        for source in sources:
            if isinstance(source, Fields):
                frame.merged.append(source)
            else:
                message = "The merge key '<<' needs a mapping, or a list of mappings."
                self._reading.add(node.mark, self._path(), message)

    def _scalar(self, event: yaml.ScalarEvent, mark: Mark) -> Scalar:
        text: str = event.value
        if _SURROGATE.search(text):
            raise Stop(mark, "A surrogate such as \\ud800 is no character.")
        own = _OWN_TAGS.get(event.tag or "")
        if own is not None:
            value = resolve(text) if event.style is None else text
            return Scalar(mark, self._finite(value, mark), text, own)
        if event.tag is None and event.implicit[0]:
            return Scalar(mark, self._finite(resolve(text), mark), text)
        if event.tag in (None, "!", _YAML_TAG + "str"):
            return Scalar(mark, text, text)
        return Scalar(mark, self._tagged(event.tag or "", text, mark), text)

    def _tagged(self, tag: str, text: str, mark: Mark) -> Plain:
        kind = _SCALAR_TAGS.get(tag)
        if kind is None:
            self._refuse_tag(tag, mark)
        value = resolve(text)
        if kind is float and type(value) is int:
            value = float(value)
        if kind is not None and type(value) is not kind:
            self._reading.add(
                mark, self._path(), f"{quoted(text)} is not what its tag '{_short(tag)}' says."
            )
        return self._finite(value, mark)

    def _finite(self, value: Plain, mark: Mark) -> Plain:
        if isinstance(value, float) and not math.isfinite(value):
            self._reading.add(
                mark, self._path(), "Infinity and NaN (not a number) have no meaning here."
            )
            return 0.0
        return value

    def _path(self) -> str:
        """The path of the value that is being read."""
        path = ""
        for frame in self._frames:
            if not frame.is_mapping:
                path = f"{path}[{len(frame.items)}]"
            elif frame.key is not None:
                path = join(path, frame.key.text)
        return path

    def _refuse_tag(self, tag: str, mark: Mark) -> None:
        message = f"The tag {quoted(_short(tag))} is not allowed; only !reset and !override are."
        self._reading.add(mark, self._path(), message)


def _inherited(sources: list[Fields]) -> dict[str, Field]:
    """What merge keys bring: of two sources that have the same key, the first wins."""
    fields: dict[str, Field] = {}
    for source in sources:
        for key, value in source.fields.items():
            fields.setdefault(key, value)
    return fields


def _short(tag: str) -> str:
    return tag.replace(_YAML_TAG, "!!", 1)
