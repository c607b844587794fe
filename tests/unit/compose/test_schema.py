"""The JSON Schema says of every file what the validator says of the form of its values."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml
from compose_malformed import MALFORMED
from compose_valid import VALID, valid_file
from hypothesis import given, settings
from hypothesis import strategies as st

from vmorch.model.compose import SourceFile, json_schema
from vmorch.model.compose.containers import read_part
from vmorch.model.compose.file import FILE
from vmorch.model.compose.parse import parse
from vmorch.model.compose.reading import Reading, TooMany

VALIDATOR = jsonschema.Draft202012Validator(json_schema())

# What no pattern says: words that must be looked at together, or split by a shell's rules.
BEYOND_FORM = {
    "quote in a command",
    "host-gateway",
    "dockerfile twice",
    "remote context",
    "uneven ranges",
    "backward range",
    "long range",
    "udp",
    "udp in the long form",
    "depth",
    "escaped NUL",
    "NUL in a name",
    "NUL in a list",
}


def form_problems(document: Any) -> list[str]:
    """The problems of the form of values alone, without variables and checks across services."""
    reading = Reading()
    # JSON is YAML: so the validator sees exactly the values that the schema sees.
    for node in parse(SourceFile("f", json.dumps(document)), reading):
        read_part(FILE, node, node.mark, "", reading)
    return [str(problem) for problem in reading.problems]


def schema_errors(document: Any) -> list[str]:
    return [error.message[:200] for error in VALIDATOR.iter_errors(document)]


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert json.loads(json.dumps(json_schema())) == json_schema()


def documents() -> dict[str, Any]:
    """All files of the two tables that are YAML to PyYAML, with variables replaced by nothing."""
    found: dict[str, Any] = {}
    texts = {name: text for name, (text, _) in MALFORMED.items()}
    texts |= {name: valid_file(lines) for name, (lines, _) in VALID.items()}
    for name, text in texts.items():
        try:
            document = yaml.load(text, Loader=yaml.BaseLoader) if "$" in text else as_json(text)
        except (yaml.YAMLError, ValueError):
            continue
        found[name] = document
    return found


def as_json(text: str) -> Any:
    """A file's values as the validator itself reads them from YAML."""
    from vmorch.model.compose.nodes import to_plain

    reading = Reading()
    try:
        nodes = parse(SourceFile("f", text), reading)
    except TooMany as error:
        raise ValueError from error
    if reading.problems or len(nodes) != 1:
        raise ValueError
    return json.loads(json.dumps(to_plain(nodes[0])))


DOCUMENTS = {n: d for n, d in documents().items() if "$" not in json.dumps(d)}


@pytest.mark.parametrize("name", [n for n in DOCUMENTS if n not in BEYOND_FORM])
def test_schema_and_validator_agree_on_the_tables(name: str) -> None:
    document = DOCUMENTS[name]
    assert bool(schema_errors(document)) == bool(form_problems(document)), (
        schema_errors(document),
        form_problems(document),
    )


def test_most_of_the_tables_are_compared() -> None:
    assert len(DOCUMENTS) > 130


@pytest.mark.parametrize("name", [n for n in VALID if "$" in VALID[n][0]])
def test_a_file_with_variables_is_right_before_they_are_replaced(name: str) -> None:
    assert schema_errors(as_json(valid_file(VALID[name][0]))) == []


LEAVES = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        80,
        70000,
        1.5,
        2.0,
        "",
        "a",
        "default",
        "no",
        "yes",
        "80",
        "80:80",
        "0",
        "10s",
        "512M",
        "0.5",
        "70%",
        "/a",
        "a b",
        "A=1",
        "a:1.1.1.1",
        "127.0.0.1",
        "10.0.0.0/24",
        "service_healthy",
        "any",
        "#!/bin/sh",
        "HTTP",
        [],
        {},
        [""],
        ["HTTP", "/"],
        ["CMD", "x"],
        {"a": None},
        {"x-a": 1},
        {"file": "x"},
        {"default": None},
    ]
)
VALID_DOCUMENTS = [
    DOCUMENTS[name] for name in VALID if name in DOCUMENTS and name not in BEYOND_FORM
]


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    if isinstance(document, dict):
        for key, value in document.items():
            found += places(value, (*at, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            found += places(value, (*at, index))
    return found


def replaced(document: Any, at: tuple[Any, ...], value: Any) -> Any:
    if not at:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[at[0]] = replaced(document[at[0]], at[1:], value)
    return copy


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_schema_and_validator_agree_on_changed_files(data: st.DataObject) -> None:
    document = data.draw(st.sampled_from(VALID_DOCUMENTS))
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.sampled_from(places(document)[1:] or [()]))
        document = replaced(document, at, data.draw(LEAVES))
    if not isinstance(document, dict):
        return
    problems = form_problems(document)
    assert bool(schema_errors(document)) == bool(problems), (schema_errors(document), problems)
