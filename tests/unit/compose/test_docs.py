"""The guide names every key, and its example is a right file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from compose_loading import load_texts

from vmorch.model.compose.availability import NOT_YET
from vmorch.model.compose.containers import ListOf, MapOf, OneOrMany
from vmorch.model.compose.file import FILE
from vmorch.model.compose.forms import Form
from vmorch.model.compose.objects import Either, Object

GUIDE = (Path(__file__).parents[3] / "docs" / "compose.md").read_text()
WORDS = set(re.findall(r"[a-z0-9_]+", GUIDE))


def objects(form: Form | None) -> Iterator[Object]:
    match form:
        case Object():
            yield form
            for key in form.keys.values():
                yield from objects(key.form)
        case ListOf():
            yield from objects(form.item)
        case OneOrMany():
            yield from objects(form.many)
        case MapOf():
            yield from objects(form.value)
        case Either():
            for part in (form.scalar, form.items, form.fields):
                yield from objects(part)


OBJECTS = {found.name: found for found in objects(FILE)}
PARTS_OF_ABSENT = {
    "rollout",
    "blkio",
    "rate",
}


@pytest.mark.parametrize("name", [name for name in OBJECTS if name not in PARTS_OF_ABSENT])
def test_the_guide_names_every_key(name: str) -> None:
    found = OBJECTS[name]
    missing = set(found.keys) - WORDS
    if name in ("file", "service", "build", "network", "deploy", "limits"):
        missing |= set(found.refused) - WORDS
    assert not missing


@pytest.mark.parametrize("name", ["file", "service", "build", "network"])
def test_the_guide_gives_the_reason_of_each_refused_key(name: str) -> None:
    for key, reason in OBJECTS[name].refused.items():
        assert f"| `{key}` | {reason[0].upper()}{reason[1:]} |" in GUIDE


def test_keys_that_are_not_available_are_declared_and_named() -> None:
    for entry in NOT_YET:
        owner, key = entry.split(".")
        assert key in OBJECTS[owner].keys
        assert key in WORDS


def test_no_key_is_both_declared_and_refused() -> None:
    for found in OBJECTS.values():
        assert not set(found.keys) & set(found.refused)


def test_reasons_are_sentences() -> None:
    for found in OBJECTS.values():
        for reason in found.refused.values():
            assert reason.endswith(".")


def test_the_example_of_the_guide_is_right() -> None:
    example = GUIDE.split("```yaml\n")[1].split("```")[0]
    assert list(load_texts(example).services) == ["orders", "db"]


def test_the_message_of_the_guide_is_what_vmorch_says() -> None:
    text = "services:\n  orders:\n    image: x\n    deploy:\n      replcas: 2\n"
    with pytest.raises(Exception, match="replcas") as caught:
        load_texts(text)
    said = str(caught.value).replace("0.yaml", "vmorch.yaml")
    assert said in GUIDE
