"""Several files, by the Compose Specification's rules of merging, `!reset` and `!override`."""

from __future__ import annotations

from typing import Any

import pytest
from compose_loading import load_texts, service

from vmorch.model.compose import SourceFile, load
from vmorch.model.spec import BuildSecret, HealthKind

# What: (lines of the first file, lines of the second, attribute of the service, what it is)
RULES: dict[str, tuple[str, str, str, Any]] = {
    "a scalar is replaced": ("user: a", "user: b", "user", "b"),
    "what only one has is kept": ("user: a", "scale: 2", "user", "a"),
    "what only the other has is added": ("user: a", "scale: 2", "replicas", 2),
    "null replaces nothing": ("user: a", "user:", "user", "a"),
    "mappings are merged": (
        "deploy: {replicas: 2, resources: {limits: {cpus: 2}}}",
        "deploy: {resources: {limits: {memory: 1G}}}",
        "cpus",
        2.0,
    ),
    "the value deep below wins": (
        "deploy: {resources: {limits: {cpus: 2}}}",
        "deploy: {resources: {limits: {cpus: 3}}}",
        "cpus",
        3.0,
    ),
    "command is replaced": ("command: [a, b]", "command: [c]", "command", ("c",)),
    "command line over list": ("command: [a, b]", "command: c d e", "command", ("c", "d", "e")),
    "entrypoint is replaced": ("entrypoint: [a]", "entrypoint: b", "entrypoint", ("b",)),
    "environment by name": (
        "environment: {A: 1, B: 2}",
        "environment: {B: 3, C: 4}",
        "environment",
        {"A": "1", "B": "3", "C": "4"},
    ),
    "environment, list over map": (
        "environment: {A: 1, B: 2}",
        "environment: [B=3, C=4]",
        "environment",
        {"A": "1", "B": "3", "C": "4"},
    ),
    "environment, map over list": (
        "environment: [A=1, B=2]",
        "environment: {B: 3}",
        "environment",
        {"A": "1", "B": "3"},
    ),
    "a variable without a value takes that of the command": (
        "environment: {USER: own}",
        "environment: [USER]",
        "environment",
        {"USER": "me"},
    ),
    "labels by name": ("labels: [a=1]", "labels: {a: 2, b: 3}", "labels", {"a": "2", "b": "3"}),
    "extra_hosts by name": (
        "extra_hosts: ['a:1.1.1.1']",
        "extra_hosts: {a: 2.2.2.2}",
        "extra_hosts",
        {"a": "2.2.2.2"},
    ),
    "expose is appended": ("expose: [80, 81]", "expose: ['81', 82/tcp]", "expose", (80, 81, 82)),
    "env_file is appended": (
        "env_file: good.env",
        "env_file: [other.env]",
        "environment",
        {"A": "other", "B": "x # y", "USER": "me"},
    ),
    "check is replaced": (
        "healthcheck: {test: [CMD, a], interval: 9s}",
        "healthcheck: {test: [NONE]}",
        "healthcheck.kind",
        HealthKind.NONE,
    ),
    "the rest of the check stays": (
        "healthcheck: {test: [CMD, a], interval: 9s}",
        "healthcheck: {test: [CMD, b, c]}",
        "healthcheck.interval_seconds",
        9.0,
    ),
    "dependencies are merged": (
        "depends_on: [db]",
        "depends_on: {db: {condition: service_healthy}, two: }",
        "depends_on",
        {"db": "service_healthy", "two": "service_started"},
    ),
    "dependencies, list over map": (
        "depends_on: {db: {condition: service_healthy}}",
        "depends_on: [two]",
        "depends_on",
        {"db": "service_healthy", "two": "service_started"},
    ),
    "build, map over text": ("build: ./a", "build: {target: t}", "build.context", "./a"),
    "build, text over map": ("build: {target: t}", "build: ./b", "build.target", "t"),
    "build args by name": (
        "build: {args: [A=1, B=2]}",
        "build: {args: {B: 3}}",
        "build.args",
        {"A": "1", "B": "3"},
    ),
    "a build's secrets by id": (
        "build: {secrets: [one, two, {source: one, target: id}]}",
        "build: {secrets: [{source: one, target: two}, {source: two, target: id}, three]}",
        "build.secrets",
        tuple(
            BuildSecret(source=source, target=target)
            for source, target in [
                ("one", "one"),
                ("one", "two"),
                ("two", "id"),
                ("three", "three"),
            ]
        ),
    ),
    "a build's secrets over a text": (
        "build: ./a",
        "build: {secrets: [one]}",
        "build.secrets",
        (BuildSecret(source="one", target="one"),),
    ),
    "override of a build's secrets": (
        "build: {secrets: [one, two]}",
        "build: {secrets: !override [three]}",
        "build.secrets",
        (BuildSecret(source="three", target="three"),),
    ),
    "cloud_init is replaced": (
        "cloud_init: {packages: [a]}",
        "cloud_init: '#!/bin/sh'",
        "cloud_init",
        "#!/bin/sh",
    ),
    "reset of a scalar": ("user: a", "user: !reset null", "user", None),
    "reset of a mapping": ("environment: {A: 1}", "environment: !reset {}", "environment", {}),
    "reset of a list": ("ports: ['80:80']", "ports: !reset []", "ports", ()),
    "reset of one variable": (
        "environment: {A: 1, B: 2}",
        "environment: {A: !reset null}",
        "environment",
        {"B": "2"},
    ),
    "override of a list": ("expose: [80]", "expose: !override [81]", "expose", (81,)),
    "override of a mapping": (
        "environment: {A: 1}",
        "environment: !override {B: 2}",
        "environment",
        {"B": "2"},
    ),
    "override below": (
        "deploy: {resources: {limits: {cpus: 2, memory: 1G}}}",
        "deploy: {resources: {limits: !override {memory: 2G}}}",
        "cpus",
        1.0,
    ),
}


def lines(text: str) -> str:
    image = "" if "build" in text else "    image: tiny\n"
    body = "".join(f"    {line}\n" for line in text.splitlines())
    secrets = "".join(f"  {name}: {{environment: USER}}\n" for name in ("one", "two", "three"))
    services = f"services:\n  web:\n{image}{body}  db: {{image: x}}\n  two: {{image: x}}\n"
    return f"{services}secrets:\n{secrets}"


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str) -> None:
    first, second, attribute, expected = RULES[rule]
    found: Any = service(lines(first), lines(second))
    for part in attribute.split("."):
        found = getattr(found, part)
    assert found == expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("['80:80']", "['81:81']", [(80, 80), (81, 81)]),
        ("['80:80']", "['80:80']", [(80, 80)]),
        ("['80:80']", "[{target: 80, published: '80'}]", [(80, 80)]),
        ("['80:80/tcp']", "[{target: 80, published: 80, protocol: tcp}]", [(80, 80)]),
        ("['80:80']", "['80:90']", None),
        ("[80]", "['80']", [(None, 80)]),
    ],
)
def test_ports_are_the_same_by_address_ports_and_protocol(
    first: str, second: str, expected: list[tuple[int, int]] | None
) -> None:
    files = (lines(f"ports: {first}"), lines(f"ports: {second}"))
    if expected is None:
        with pytest.raises(Exception, match="published by 'web' already"):
            load_texts(*files)
    else:
        assert [(p.published, p.target) for p in service(*files).ports] == expected


def test_routes_are_the_same_by_host_path_and_headers() -> None:
    one = lines("route: {host: a, port: 80}")
    assert [r.port for r in service(one, lines("route: {port: 81}")).routes] == [81]
    other = lines("route: [{host: a, port: 82}, {host: b, port: 83}]")
    assert [(r.host, r.port) for r in service(one, other).routes] == [("a", 82), ("b", 83)]
    preview = lines("route: [{host: a, port: 82, headers: {X-A: b}}]")
    assert [r.port for r in service(one, preview).routes] == [80, 82]


def test_three_files_and_services_of_later_files() -> None:
    first = "name: a\nservices: {web: {image: tiny}}"
    second = "services: {api: {image: tiny}}"
    third = "name: b\nservices: {web: {user: x}, api: !reset null, db: {image: y}}"
    spec = load_texts(first, second, third)
    assert spec.name == "b"
    assert {name: s.user for name, s in spec.services.items()} == {"web": "x", "db": None}


def test_documents_of_one_file_are_merged_as_files_are() -> None:
    assert service("services: {web: {image: tiny}}\n---\nservices: {web: {user: x}}\n").user == "x"


def test_tags_in_a_single_file_say_nothing_beside_the_value() -> None:
    found = service("services: {web: {image: tiny, user: !reset x, expose: !override [1]}}")
    assert (found.user, found.expose) == (None, (1,))


def test_each_file_is_interpolated_before_it_is_merged() -> None:
    first = "services: {web: {image: tiny, environment: ['A=$USER']}}"
    assert service(first, "services: {web: {environment: {A: '$$USER'}}}").environment == {
        "A": "$USER"
    }


def test_anchors_are_known_in_their_own_file_only() -> None:
    first = SourceFile("a", "x-a: &a {image: tiny}\nservices: {web: *a}")
    second = SourceFile("b", "services: {web: *a}")
    with pytest.raises(Exception, match="b:1:17: There is no anchor '&a'"):
        load([first, second], variables={}, read=lambda path: None, default_name="d")
