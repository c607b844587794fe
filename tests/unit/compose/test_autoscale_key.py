"""`autoscale:`: what each way to write it means, and where its mistakes are."""

from __future__ import annotations

from typing import Any

import pytest
from compose_loading import load_texts
from compose_malformed import web

from vmorch.errors import InvalidSpec
from vmorch.model import codec
from vmorch.model.autoscale import AutoscaleSpec, ScheduledFloor
from vmorch.model.compose import SourceFile, load, render

REACHED = "expose: [80]\nroute: {host: shop.test}"
WORK = ScheduledFloor(
    start_minute=480, end_minute=1080, min=3, days=(0, 1, 2, 3, 4), tz="Europe/Berlin"
)
READ: dict[str, tuple[str, AutoscaleSpec]] = {
    "the example": (
        "{min: 1, max: 6, concurrency: 20, cpu: 70%}",
        AutoscaleSpec(min=1, max=6, concurrency=20, cpu=0.7),
    ),
    "defaults": (
        "{max: 6, rps: 0.5}",
        AutoscaleSpec(
            min=1, max=6, rps=0.5, stabilization_seconds=300, window_seconds=60, schedule=()
        ),
    ),
    "everything": (
        "{min: 0, max: 9, concurrency: '1.5', rps: 100, cpu: 90%, memory: 29%, idle: 10m, "
        "hold: 45s, stabilization: 0s, window: 90s}",
        AutoscaleSpec(
            min=0,
            max=9,
            concurrency=1.5,
            rps=100,
            cpu=0.9,
            memory=0.29,
            idle_seconds=600,
            hold_seconds=45,
            stabilization_seconds=0,
            window_seconds=90,
        ),
    ),
    "nothing but sleep": (
        "{min: 0, max: 1, idle: 10m}",
        AutoscaleSpec(min=0, max=1, idle_seconds=600, hold_seconds=30),
    ),
    "a schedule": (
        "{max: 5, schedule: [{from: 08:00, to: '18:00', days: mon-fri, min: 3, "
        "tz: Europe/Berlin}, {from: 22:30, to: 00:00, min: 2}]}",
        AutoscaleSpec(
            max=5, schedule=(WORK, ScheduledFloor(start_minute=1350, end_minute=0, min=2))
        ),
    ),
    "days over the week's end": (
        "{max: 5, schedule: [{from: 00:00, to: 00:00, min: 2, days: 'sat-mon,wed,sat'}]}",
        AutoscaleSpec(
            max=5,
            schedule=(ScheduledFloor(start_minute=0, end_minute=0, min=2, days=(0, 2, 5, 6)),),
        ),
    ),
}
WRONG: dict[str, tuple[str, dict[int, str]]] = {
    "no max": ("min: 1", {4: "The key 'max' is missing"}),
    "typo": ("max: 2\ncpus: 70%", {6: "Did you mean 'cpu'?"}),
    "percent": ("max: 2\ncpu: 170%", {6: "a percentage such as 70%"}),
    "cpu that is never exceeded enough": ("max: 2\ncpu: 91%", {6: "91% is not allowed"}),
    "memory that is never exceeded enough": ("max: 2\nmemory: 100%", {6: "at most 90%"}),
    "plain share": ("max: 2\nmemory: 0.7", {6: "a percentage such as 70%"}),
    "no number": ("max: 2\nconcurrency: many", {6: "a number such as 20 or 0.5"}),
    "negative": ("max: 2\nrps: -1", {6: "at least 0.001"}),
    "zero": ("max: 2\nconcurrency: 0", {6: "at least 0.001"}),
    "next to nothing": ("max: 2\nconcurrency: 0.0000000001", {6: "at least 0.001"}),
    "nothing to scale by": ("max: 2", {4: "needs one of 'concurrency', 'rps'"}),
    "min above max": ("max: 2\nmin: 3\ncpu: 70%", {6: "from 0 to 'max', which is 2"}),
    "no room": ("min: 0\nidle: 1m\nmax: 0\ncpu: 70%", {7: "at least 1"}),
    "min of 0 without idle": ("max: 2\nmin: 0\ncpu: 70%", {6: "say with 'idle'"}),
    "nothing to scale by but sleep": (
        "max: 2\nmin: 0\nidle: 1m",
        {4: "needs one of 'concurrency'"},
    ),
    "hold without a min of 0": ("max: 2\ncpu: 70%\nhold: 5s", {7: "only with 'min: 0'"}),
    "long hold": ("max: 1\nmin: 0\nidle: 1m\nhold: 6m", {8: "from 1s to 5m"}),
    "idle without a min of 0": ("max: 2\ncpu: 70%\nidle: 5m", {7: "only with 'min: 0'"}),
    "short window": ("max: 2\ncpu: 70%\nwindow: 5s", {7: "from 6s to 10m"}),
    "long stabilization": ("max: 2\ncpu: 70%\nstabilization: 2h", {7: "from 0s to 1h"}),
    "stabilization of what only sleeps": (
        "max: 1\nmin: 0\nidle: 1m\nstabilization: 1m",
        {8: "nothing to hold up"},
    ),
    "no time": ("max: 2\ncpu: 70%\nstabilization: 5", {7: "a time such as"}),
    "not as many instances": ("max: 181\ncpu: 70%", {1: "together may be 181 instances"}),
    "no end": ("max: 2\nschedule:\n  - from: 08:00\n    min: 1", {7: "'to' is missing"}),
    "hour": (
        "max: 2\nschedule:\n  - {to: 24:00, min: 1,\n    from: 8:00}",
        {7: "found '24:00'", 8: "found '8:00'"},
    ),
    "day": (
        "max: 2\nschedule:\n  - {from: 08:00, to: 09:00, min: 1,\n    days: mon-fry}",
        {8: "days such as mon-fri"},
    ),
    "zone": (
        "max: 2\nschedule:\n  - {from: 08:00, to: 09:00, min: 2,\n    tz: Europe/Berlyn}",
        {8: "no time zone 'Europe/Berlyn'"},
    ),
    "a directory of zones": (
        "max: 2\nschedule:\n  - {from: 08:00, to: 09:00, min: 2,\n    tz: Europe}",
        {8: "no time zone 'Europe'"},
    ),
    "floor of nothing": (
        "max: 2\nschedule:\n  - {from: 08:00, to: 09:00,\n    min: 0}",
        {8: "from 1 to 'max', which is 2"},
    ),
    "floor that min keeps": (
        "max: 4\nmin: 2\nschedule:\n  - {from: 08:00, to: 09:00,\n    min: 2}",
        {9: "There are always 2"},
    ),
    "floor above max": (
        "max: 2\nschedule:\n  - {from: 08:00, to: 09:00,\n    min: 3}",
        {8: "from 1 to 'max', which is 2"},
    ),
}


def file(text: str) -> str:
    return web(REACHED) + f"    autoscale: {text}\n"


def below(text: str) -> str:
    lines = "".join(f"  {line}\n" for line in text.splitlines())
    return web(f"autoscale:\n{lines}{REACHED}")


@pytest.mark.parametrize("name", READ)
def test_it_is_read_and_written_and_travels(name: str) -> None:
    text, expected = READ[name]
    spec = load_texts(file(text))
    assert spec.services["web"].autoscale == expected
    again = load(
        [SourceFile("r", render(spec))], variables={}, read=lambda path: "", default_name="x"
    )
    assert again == spec
    assert codec.from_json(codec.to_json(spec)) == spec


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_has_its_line(name: str) -> None:
    text, expected = WRONG[name]
    with pytest.raises(InvalidSpec) as caught:
        load_texts(below(text))
    found = {problem.line: problem.message for problem in caught.value.problems}
    assert found.keys() == expected.keys()
    for line, part in expected.items():
        assert part in found[line]


def test_requests_in_flight_are_counted_only_where_there_is_a_port() -> None:
    with pytest.raises(InvalidSpec, match="add 'expose'"):
        load_texts(web("autoscale: {max: 2, concurrency: 1}"))


def test_requests_per_second_are_counted_only_at_routes() -> None:
    text = web("expose: [80]\nports: ['80:80']\nautoscale: {max: 2, rps: 1}")
    with pytest.raises(InvalidSpec, match="counted at routes, and it has none: add 'route'"):
        load_texts(text)


def test_a_volume_of_one_instance_cannot_be_scaled() -> None:
    text = file("{max: 2, cpu: 70%}") + "    volumes: [data:/x]\nvolumes: {data: {}}\n"
    with pytest.raises(InvalidSpec, match="for one instance at a time, and there are 2"):
        load_texts(text)


def test_what_nobody_could_wake_must_not_sleep() -> None:
    text = web("autoscale: {min: 0, max: 1, idle: 10m}")
    with pytest.raises(InvalidSpec, match="Nobody could wake it: requests do in the proxy"):
        load_texts(text)


def test_a_later_file_changes_single_keys() -> None:
    later = web("autoscale: {max: 8}")
    merged = load_texts(file("{min: 2, max: 4, cpu: 50%}"), later).services["web"].autoscale
    assert merged == AutoscaleSpec(min=2, max=8, cpu=0.5)


def test_it_makes_no_new_revision() -> None:
    plain = load_texts(file("{max: 4, cpu: 50%}")).services["web"]
    other = load_texts(file("{max: 8, rps: 5}")).services["web"]
    assert plain.revision_digest() == other.revision_digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu": 1.5},
        {"cpu": float("nan")},
        {"concurrency": -1.0},
        {"schedule": [{"start_minute": 1440, "end_minute": 0, "min": 1}]},
        {"schedule": [{"start_minute": 0, "end_minute": 0, "min": 1, "days": [7]}]},
        {"schedule": [{"start_minute": 0, "end_minute": 0, "min": 1, "days": []}]},
        {"schedule": [{"start_minute": 0, "end_minute": 0, "min": 1, "tz": "../../etc/passwd"}]},
    ],
)
def test_what_no_file_could_say_is_refused_by_the_api(changes: dict[str, Any]) -> None:
    data = codec.to_json(load_texts(file("{max: 4, cpu: 50%}")))
    data["services"]["web"]["autoscale"] |= changes
    with pytest.raises(InvalidSpec):
        codec.from_json(data)
