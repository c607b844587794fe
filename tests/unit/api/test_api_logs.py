from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vmorch.api.logfiles import LINE_LIMIT, LogFile, parsed
from vmorch.client import Client
from vmorch.errors import NotFound, UsageError
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.model.view.stream import LogLine


def line(seconds: int, text: str) -> str:
    return f"17000000{seconds:02}.000000 host app[12]: {text}\n"


def texts(lines: Iterator[LogLine]) -> list[str]:
    return [entry.line for entry in lines]


@pytest.fixture
def client(daemon: Any) -> Client:
    return Client(daemon.settings.socket)


@pytest.fixture
def up(client: Client) -> None:
    """The environment lives."""
    service = ServiceSpec(
        name="web", image=client.ensure_image("debian:12", lambda _: None), replicas=0
    )
    client.apply(EnvironmentSpec(name="shop", services={"web": service}))


@pytest.mark.parametrize(
    ("data", "time", "text"),
    [
        (
            b"1700000000.123456 web-1 python3[312]: hello: world\n",
            1700000000.123456,
            "hello: world",
        ),
        (b"1700000000.5 web-1 systemd: up\n", 1700000000.5, "up"),
        (b"1700000000.5 web-1 \n", 1700000000.5, ""),
        (b"[    0.000000] Linux version 6\r\n", None, "[    0.000000] Linux version 6"),
        (b"\xff\xfe\n", None, "\ufffd\ufffd"),
    ],
)
def test_lines_are_parsed(data: bytes, time: float | None, text: str) -> None:
    found = parsed("web-1", data)
    assert (found.time, found.line) == (time, text)


def test_rotated_files_come_first_oldest_first(daemon: Any, client: Client) -> None:
    path = daemon.write_log("shop", "web-1", line(4, "four"))
    path.with_name("service.log.10").write_text(line(1, "one"))
    path.with_name("service.log.1").write_text(line(2, "two"))
    path.with_name("service.log.0").write_text(line(3, "three"))
    path.with_name("service.log.old").write_text(line(0, "not a rotation"))
    assert texts(client.logs("shop")) == ["one", "two", "three", "four"]


def test_instances_are_merged_by_time_also_when_gone(daemon: Any, client: Client) -> None:
    daemon.write_log("shop", "web-1", line(1, "a") + "  continued\n" + line(4, "d"))
    daemon.write_log("shop", "db-1", line(2, "b") + line(3, "c"))
    assert texts(client.logs("shop")) == ["a", "  continued", "b", "c", "d"]
    assert texts(client.logs("shop", ["db"])) == ["b", "c"]
    assert texts(client.logs("shop", ["web-1"], tail=1)) == ["d"]
    assert texts(client.logs("shop", ["web-1"], tail=0)) == []
    assert texts(client.logs("shop", ["web", "db"], since=1700000003.0)) == [
        "  continued",
        "c",
        "d",
    ]


def test_the_console_is_another_source(daemon: Any, client: Client) -> None:
    daemon.write_log("shop", "web-1", "kernel\n", name="console")
    assert texts(client.logs("shop", source="console")) == ["kernel"]
    assert texts(client.logs("shop")) == []
    with pytest.raises(UsageError):
        list(client.logs("shop", source="../../disk.qcow2"))


def test_unknown_names_are_not_found(daemon: Any, client: Client) -> None:
    daemon.write_log("shop", "web-1", "x\n")
    for environment, names in (("nope", []), ("shop", ["db"]), ("..", []), ("shop", [".."])):
        with pytest.raises(NotFound):
            list(client.logs(environment, names))


@pytest.mark.usefixtures("up")
def test_an_unfinished_line_is_shown_unless_it_is_waited_for(daemon: Any, client: Client) -> None:
    daemon.write_log("shop", "web-1", line(1, "a") + "half")
    assert texts(client.logs("shop")) == ["a", "half"]
    followed = client.logs("shop", follow=True)
    assert next(followed).line == "a"
    threading.Timer(0.5, daemon.write_log, ("shop", "web-1", " and half\n")).start()
    assert next(followed).line == "half and half"


@pytest.mark.usefixtures("up")
def test_following_goes_through_rotation_and_to_new_instances(daemon: Any, client: Client) -> None:
    path = daemon.write_log("shop", "web-1", line(1, "a"))
    followed = client.logs("shop", follow=True)
    assert next(followed).line == "a"
    with path.open("a") as file:
        file.write(line(2, "b"))
        path.rename(path.with_name("service.log.0"))
        file.write(line(3, "c"))
    path.write_text(line(4, "d"))
    assert [next(followed).line for _ in range(3)] == ["b", "c", "d"]
    daemon.write_log("shop", "db-1", line(5, "new"))
    assert next(followed).instance == "db-1"


def test_following_ends_with_the_environment(daemon: Any, client: Client) -> None:
    daemon.write_log("shop", "web-1", line(1, "a"))
    assert texts(client.logs("shop", follow=True)) == ["a"]


def test_two_rotations_between_two_looks_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    path.write_text("1\n")
    with LogFile("x-1", path) as log:
        assert texts(log.lines()) == ["1"]
        path.rename(tmp_path / "service.log.1")
        (tmp_path / "service.log.0").write_text("2\n")
        path.write_text("3\n")
        assert texts(log.lines()) == ["2", "3"]
        assert texts(log.lines()) == []


def test_a_truncated_file_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    path.write_text("long line\n")
    with LogFile("x-1", path) as log:
        assert texts(log.lines()) == ["long line"]
        with path.open("r+") as file:
            file.truncate(0)
            file.write("new\n")
        assert texts(log.lines()) == ["new"]


def test_an_endless_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    path.write_text("x" * (LINE_LIMIT + 10) + "\n")
    with LogFile("x-1", path) as log:
        assert [len(entry.line) for entry in log.lines()] == [LINE_LIMIT, 10]
