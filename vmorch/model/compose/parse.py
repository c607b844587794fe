"""YAML text to nodes with places, bounded against hostile input."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from vmorch.model.compose.builder import Builder, Stop
from vmorch.model.compose.nodes import Fields, Mark, Node, is_null
from vmorch.model.compose.reading import Reading

SIZE_LIMIT = 1024 * 1024  # characters of one file

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may be built without libyaml
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EMPTY = "The file is empty: it needs at least 'services:'."


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One of the user's files. Bytes that are not UTF-8 stand in `text` as Python's
    `surrogateescape` leaves them, so that they are reported with their place."""

    name: str
    text: str

    @classmethod
    def from_bytes(cls, name: str, data: bytes) -> SourceFile:
        return cls(name, data.decode("utf-8", errors="surrogateescape"))


def parse(source: SourceFile, reading: Reading) -> list[Fields]:
    """The documents of a file; what is wrong goes to `reading`.

    As in Compose, a further document of the same file overrides the ones before it.
    """
    start = Mark(source.name, 1, 1)
    try:
        documents = _documents(source.name, source.text.removeprefix("\ufeff"), reading)
    except Stop as stop:
        reading.add(stop.mark, "", stop.message)
        return []
    for node in documents:
        if is_null(node):
            reading.add(start, "", _EMPTY)
        elif not isinstance(node, Fields):
            reading.add(node.mark, "", "The file must be a mapping that begins with 'services:'.")
    if not documents:
        reading.add(start, "", _EMPTY)
    return [node for node in documents if isinstance(node, Fields)]


def _documents(name: str, text: str, reading: Reading) -> list[Node]:
    """Raises Stop."""
    _check_text(name, text)
    builder = Builder(name, reading)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(name, error, text) from error
    except yaml.YAMLError as error:
        raise Stop(Mark(name, 1, 1), f"This is not YAML: {error}.") from error
    return builder.documents


def _check_text(name: str, text: str) -> None:
    if len(text) > SIZE_LIMIT:
        raise Stop(Mark(name, 1, 1), f"The file has more than {SIZE_LIMIT} characters.")
    bad = _FORBIDDEN.search(text)
    if bad is None:
        return
    line = text.count("\n", 0, bad.start()) + 1
    column = bad.start() - text.rfind("\n", 0, bad.start())
    if "\ud800" <= bad[0] <= "\udfff":
        what = f"The byte 0x{ord(bad[0]) & 0xFF:02x} here is not UTF-8; save the file as UTF-8."
    else:
        what = f"The control character U+{ord(bad[0]):04X} is not allowed in YAML."
    raise Stop(Mark(name, line, column), what)


def _syntax_error(name: str, error: yaml.MarkedYAMLError, text: str) -> Stop:
    where = error.problem_mark or error.context_mark
    if where is None:
        return Stop(Mark(name, 1, 1), f"This is not YAML: {error.problem}.")
    lines = text.split("\n")
    number = min(where.line, len(lines) - 1)  # libyaml counts a line behind the last one
    line = lines[number]
    column = where.column if number == where.line else len(line)
    indentation = line[: len(line) - len(line.lstrip())]
    if "\t" in indentation or line.startswith("\t", column):
        what = "A tab stands here; YAML allows only spaces for indentation."
    else:
        said = " ".join(filter(None, (error.context, error.problem)))
        what = f"This is not YAML: {said}."
    return Stop(Mark(name, number + 1, column + 1), what)
