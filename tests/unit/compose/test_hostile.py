"""Whatever the text is, `load` gives an environment or InvalidSpec, within its bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from compose_loading import FILES, load_texts
from compose_malformed import MALFORMED
from compose_valid import VALID, valid_file
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vmorch.errors import InvalidSpec
from vmorch.model import codec
from vmorch.model.compose import SourceFile, load, render
from vmorch.model.spec import EnvironmentSpec

SERVICE_KEYS = [
    "image",
    "build",
    "command",
    "environment",
    "env_file",
    "expose",
    "ports",
    "route",
    "healthcheck",
    "depends_on",
    "deploy",
    "scale",
    "cpus",
    "mem_limit",
    "restart",
    "disk",
    "cloud_init",
    "start",
    "extra_hosts",
    "labels",
    "networks",
    "profiles",
    "autoscale",
    "blkio_config",
    "volumes",
    "secrets",
    "configs",
    "user",
    "privileged",
]
LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["80:80", "10s", "1G", "$A", "${A:-", "HTTP", "CMD", "a=b", "default", "\0"]),
)
VALUE = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.text(max_size=6), st.sampled_from(["target", "test", "limits", "host"])),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
SERVICES = st.dictionaries(
    st.sampled_from(["web", "db", "Web", "a-1", ""]),
    st.one_of(VALUE, st.dictionaries(st.sampled_from(SERVICE_KEYS), VALUE, max_size=6)),
    max_size=3,
)


def survives(*texts: str) -> EnvironmentSpec | None:
    try:
        spec = load_texts(*texts)
    except InvalidSpec as error:
        assert error.problems
        assert all("\n" not in str(problem) for problem in error.problems)
        return None
    rendered = SourceFile("r", render(spec))
    again = load([rendered], variables={}, read=FILES.get, default_name="x")
    assert again == spec
    return spec


@given(st.text())
@settings(max_examples=120, deadline=None)
def test_any_text(text: str) -> None:
    survives(text)


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@`,? \n\t<$1", max_size=60))
@settings(max_examples=120, deadline=None)
@example("&a [*a, &a b]")
@example("? &a a\n: *a")
@example("a: &a\n  <<: *a")
@example("!reset")
@example("services: !override {web: !reset {image: x}}")
def test_text_of_yamls_own_characters(text: str) -> None:
    survives(text)
    survives(f"services:\n  web:\n    image: {text}")


@given(st.dictionaries(st.sampled_from(["name", "networks", "volumes", "x-a"]), VALUE), SERVICES)
@settings(max_examples=120, deadline=None)
def test_any_structure(top: dict[str, Any], services: dict[str, Any]) -> None:
    survives(json.dumps(top | {"services": services}))


@given(SERVICES, SERVICES)
@settings(max_examples=120, deadline=None)
def test_any_two_structures(first: dict[str, Any], second: dict[str, Any]) -> None:
    survives(json.dumps({"services": first}), json.dumps({"services": second}))


TEXTS = [valid_file(lines) for lines, _ in VALID.values()] + [
    text for text, _ in MALFORMED.values()
]


@given(st.sampled_from(TEXTS), st.sampled_from(TEXTS), st.data())
@settings(max_examples=120, deadline=None)
def test_a_file_cut_or_joined_anywhere(first: str, second: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(first)))
    survives(first[:cut], second)
    survives(first[:cut] + second)


@given(VALUE)
@settings(max_examples=200, deadline=None)
def test_any_value_over_the_api(value: Any) -> None:
    for data in (value, {"name": "a", "services": value}, {"name": "a", "services": {"w": value}}):
        with pytest.raises(InvalidSpec):
            if codec.from_json(data).services == {}:
                raise InvalidSpec([])


def flow(name: str, items: str) -> str:
    return f"services: {{w: {{image: x, {name}: {items}}}}}"


HOSTILE = {
    "a long file": "#" * 2_000_000,
    "open lists": "[" * 1_000_000,
    "open mappings": "{a: " * 200_000,
    "dashes": "- " * 500_000,
    "questions": "? " * 500_000,
    "colons": "a:" * 500_000,
    "percents": "%" * 1_000_000,
    "tags": "x-a: [" + "!foo 1, " * 40_000 + "]",
    "documents": "---\n" * 200_000,
    "anchors": "".join(f"x-{i}: &a{i} 1\n" for i in range(40_000)),
    "merges": "x-a: &a {" + ", ".join(f"k{i}: 1" for i in range(400)) + "}\n"
    "x-b: {" + ", ".join("<<: *a" for _ in range(1000)) + "}",
    "unknown keys": "".join(f"k{i}: 1\n" for i in range(12_000)),
    "unknown dependencies": "services: {"
    + ", ".join(
        f"s{i}: {{image: x, depends_on: [{','.join(f'q{j}' for j in range(300))}]}}"
        for i in range(60)
    )
    + "}",
    "circles": "services: {"
    + ", ".join(
        f"s{i}: {{image: x, depends_on: [{','.join(f's{j}' for j in range(60))}]}}"
        for i in range(60)
    )
    + "}",
    "a long command": flow("command", "a" * 1_000_000),
    "long variables": flow("user", "'" + "${TAG}" * 170_000 + "$USER" * 5 + "'"),
    "open variables": flow("user", "'" + "${A:-" * 200_000 + "'"),
    "a long address": flow("extra_hosts", '{a: "' + ":" * 1_000_000 + 'x"}'),
    "a long path": flow("depends_on", "[" + "a." * 500_000 + "]"),
    "a long duration": flow("stop_grace_period", "1s" * 500_000),
    "a long number": flow("scale", "9" * 1_000_000),
    "a long host": flow("route", "{host: " + "a." * 500_000 + "}"),
    "many ranges": flow("ports", "[" + "1-65535, " * 10_000 + "]"),
    "many ports": flow("expose", "[" + ", ".join(f"{i}-{i + 255}" for i in range(1, 60000)) + "]"),
    "many services": "services: {" + ", ".join(f"s{i}: {{image: x}}" for i in range(4000)) + "}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_ends_soon_and_in_words(name: str) -> None:
    assert survives(HOSTILE[name]) is None
