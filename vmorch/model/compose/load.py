"""From the user's files to an environment: parse, interpolate, merge, read, check."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from vmorch.errors import InvalidSpec, SpecProblem
from vmorch.model.compose.checks import check
from vmorch.model.compose.containers import read_part
from vmorch.model.compose.file import FILE, environment_spec
from vmorch.model.compose.interpolate import BadTemplate, Interpolator, expand
from vmorch.model.compose.nodes import Field, Fields, Items, Mark, Node, Scalar, Tag, one_line
from vmorch.model.compose.objects import Values
from vmorch.model.compose.parse import SourceFile, parse
from vmorch.model.compose.reading import MOST_PROBLEMS, Reading, TooMany
from vmorch.model.compose.resolve import Inputs
from vmorch.model.spec import EnvironmentSpec

Warn = Callable[[str], None]


def load(
    files: Sequence[SourceFile],
    *,
    variables: Mapping[str, str],
    read: Callable[[str], str | None],
    read_bytes: Callable[[str], bytes | None] | None = None,
    project_name: str | None = None,
    profiles: Collection[str] = (),
    default_name: str,
    warn: Warn = lambda message: None,
) -> EnvironmentSpec:
    """The environment that `files` describe together, later ones over earlier ones.

    `variables` are for `${…}` and for variables without a value. `read` gives the text of a file
    that the files name, by its path relative to the first file's directory, or None; Dockerfiles
    too, to see that they are there; `read_bytes` (`read` when it is left out) does so for those
    that need not be text, secrets and configs. The name is `project_name`, else the files' `name`,
    else `default_name`.
    `warn` hears one sentence about each variable that is not set. Pure but for `read` and `warn`.

    Raises:
        InvalidSpec: every problem of all files, in the order of files and lines.
    """
    reading = Reading()
    spec = None
    with contextlib.suppress(TooMany):
        documents = [document for file in files for document in parse(file, reading)]
        project = project_name or _file_name(documents, variables) or default_name
        variables = {**variables, "COMPOSE_PROJECT_NAME": project}
        documents = _interpolated(documents, variables, reading, warn)
        encoded = read_bytes or (lambda path: None if (t := read(path)) is None else t.encode())
        inputs = Inputs(project, variables, read, reading, encoded)
        if documents:
            spec = _environment(documents, inputs, profiles)
        elif not files:
            reading.add(Mark("vmorch.yaml"), "", "No file was given.")
    if spec is None or reading.problems:
        full = len(reading.problems) >= MOST_PROBLEMS
        hint = f"Only the first {MOST_PROBLEMS} problems are shown." if full else ""
        raise InvalidSpec(_in_order(reading, files), hint=hint)
    return spec


def _environment(
    documents: list[Fields], inputs: Inputs, profiles: Collection[str]
) -> EnvironmentSpec:
    reading = inputs.reading
    if len(documents) > 1:
        reading.partial = True
        for document in documents:
            _read(_without_tags(document), reading)
        reading.partial = False
    merged = documents[0]
    for document in documents[1:]:
        merged = _as_fields(FILE.merge(merged, document), merged)
    values = _read(_without_tags(merged), reading)
    spec = environment_spec(values, inputs=inputs, profiles=profiles)
    for path, message in check(spec):
        if path == "name" or not reading.touches(".".join(path.split(".")[:2])):
            reading.add_at(path, message)
    return spec


def _read(document: Fields, reading: Reading) -> Values:
    for values in read_part(FILE, document, document.mark, "", reading):
        if isinstance(values, Values):
            return values
    return Values({}, "", document)


def _as_fields(node: Node, default: Fields) -> Fields:
    return node if isinstance(node, Fields) else default


def _file_name(documents: list[Fields], variables: Mapping[str, str]) -> str | None:
    """The last `name:`; what is wrong with it is reported where the file is read."""
    for document in reversed(documents):
        field = document.fields.get("name")
        if field and isinstance(field.node, Scalar) and isinstance(field.node.value, str):
            try:
                return expand(field.node.text, variables)
            except BadTemplate:
                return None
    return None


def _interpolated(
    documents: list[Fields], variables: Mapping[str, str], reading: Reading, warn: Warn
) -> list[Fields]:
    missing: dict[str, None] = {}
    interpolator = Interpolator(variables, reading, lambda name: missing.setdefault(name))
    found = [_as_fields(interpolator.interpolate(each), each) for each in documents]
    for name in missing:
        warn(f"The variable '{name}' is not set; it stands for nothing.")
    return found


def _without_tags(node: Fields) -> Fields:
    """The document without the values that `!reset` takes away."""
    fields = {
        key: Field(field.key_mark, _untagged(field.node))
        for key, field in node.fields.items()
        if field.node.tag is not Tag.RESET
    }
    return Fields(node.mark, fields)


def _untagged(node: Node) -> Node:
    match node:
        case Fields():
            return _without_tags(node)
        case Items(mark=mark, items=items):
            kept = (item for item in items if item.tag is not Tag.RESET)
            return Items(mark, tuple(_untagged(item) for item in kept))
    return replace(node, tag=Tag.NONE)


def _in_order(reading: Reading, files: Sequence[SourceFile]) -> list[SpecProblem]:
    order = {file.name: index for index, file in reversed(list(enumerate(files)))}
    shown = (replace(p, path=one_line(p.path)) for p in reading.problems)
    return sorted(shown, key=lambda p: (order.get(p.file, len(order)), p.file, p.line, p.column))
