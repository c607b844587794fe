"""Commands about instances, and how the command line behaves when things are not as hoped."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmorch.errors import StoreError
from vmorch.model.access import Access
from vmorch.model.instance import State

Run = Callable[..., tuple[int, str, str]]

FILE = """\
name: demo
services:
  db: {build: ./app}
  web:
    build: ./app
    ports: ["8080"]
    depends_on: [db]
    deploy: {replicas: 2}
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VMORCH_FILE", "VMORCH_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "app").mkdir()
    (tmp_path / "vmorch.yaml").write_text(FILE)
    (tmp_path / "app" / "Dockerfile").write_text("FROM debian:12\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def states(run: Run) -> dict[str, str]:
    return {row["instance"]: row["state"] for row in json.loads(run("ps", "-o", "json")[1])}


def test_stop_start_pause_and_unpause(run: Run) -> None:
    run("up")
    assert run("stop", "web-2", "db")[0] == 0
    assert states(run) == {"db-1": "stopped", "web-1": "ready", "web-2": "stopped"}
    assert run("pause", "web-1")[0] == 0
    assert states(run)["web-1"] == "paused"
    assert run("unpause")[0] == 0
    assert states(run) == {"db-1": "stopped", "web-1": "ready", "web-2": "stopped"}
    assert run("unpause")[::2] == (0, "Nothing is paused.\n")
    assert run("start")[0] == 0
    assert set(states(run).values()) == {"ready"}


def test_stop_to_sleep_and_start_again(run: Run) -> None:
    run("up")
    assert run("stop", "--sleep", "web-2", "db")[0] == 0
    assert states(run) == {"db-1": "sleeping", "web-1": "ready", "web-2": "sleeping"}
    assert run("unpause")[::2] == (0, "Nothing is paused.\n")
    assert "'vmorch start db-1' wakes it" in run("exec", "-T", "db-1", "true")[2]
    assert "--sleep" in run("stop", "--help")[1]
    assert run("start")[0] == 0
    assert set(states(run).values()) == {"ready"}


def test_restart_takes_one_after_the_other(run: Run, daemon: Any) -> None:
    run("up")
    daemon.goals = []
    set_goal = daemon.store.set_goal

    async def noted(environment: str, goal: Any, **names: Any) -> Any:
        daemon.goals.append((str(goal), *names["instances"]))
        return await set_goal(environment, goal, **names)

    daemon.store.set_goal = noted
    assert run("restart", "web")[0] == 0
    assert daemon.goals == [
        ("stop", "web-1"),
        ("run", "web-1"),
        ("stop", "web-2"),
        ("run", "web-2"),
    ]
    assert set(states(run).values()) == {"ready"}


def test_stopping_that_takes_too_long_is_6(run: Run, daemon: Any) -> None:
    run("up")
    daemon.converges = False
    code, _, err = run("stop", "web-1", "--timeout", "0.1")
    assert code == 6
    assert "was not failed or stopped" in err
    assert run("stop", "-d")[0] == 0


def test_port_prints_what_the_host_has(run: Run) -> None:
    run("up")
    code, out, _ = run("port", "web", "8080")
    assert code == 0
    assert out.startswith("127.0.0.1:3")
    assert run("port", "web")[1] == f"8080/tcp -> {out}"
    assert json.loads(run("port", "web", "-o", "json")[1]) == [
        {"host": out.strip(), "target": "8080/tcp"}
    ]
    assert run("up")[1].count(out.strip()) == 1
    code, _, err = run("port", "web", "81")
    assert (code, "Published ports: 8080/tcp." in err) == (4, True)
    assert run("port", "db")[0] == 4
    assert run("port", "nope", "1")[0] == 4


def test_up_of_one_service_brings_what_it_depends_on(run: Run) -> None:
    assert run("up", "db")[0] == 0
    assert list(states(run)) == ["db-1"]
    assert run("up", "web", "--scale", "web=1")[0] == 0
    assert list(states(run)) == ["db-1", "web-1"]
    assert run("up", "nope")[0] == 4


def test_dry_runs_change_nothing(run: Run, daemon: Any) -> None:
    code, out, _ = run("up", "--dry-run")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["ACTION", "SUBJECT"],
        ["build", "db"],
        ["build", "web"],
        ["create", "demo"],
        ["create", "db"],
        ["create", "web"],
    ]
    assert (daemon.images.requests, run("env", "ls", "-o", "json")[1]) == ([], "[]\n")
    run("up")
    rows = json.loads(run("up", "--dry-run", "--scale", "web=3", "-o", "json")[1])
    assert [(row["action"], row["subject"]) for row in rows[2:]] == [
        ("keep", "db"),
        ("create", "web"),
    ]
    out = run("down", "--dry-run")[1]
    assert [line.split()[1] for line in out.splitlines()[1:]] == [
        "web-1",
        "web-2",
        "db-1",
        "demo",
    ]
    assert len(states(run)) == 3


def test_a_conflict_is_told_before_anything_is_built(
    run: Run, daemon: Any, directory: Path
) -> None:
    text = FILE.replace('"8080"', '"8000:8080"')
    (directory / "vmorch.yaml").write_text(text)
    run("up")
    daemon.images.requests.clear()
    code, out, err = run("-p", "second", "up")
    assert (code, out, daemon.images.requests) == (7, "", [])
    assert err.splitlines() == [
        "error: Port 8000 of 127.0.0.1, which 'web' publishes, is published by 'web' of the "
        "environment 'demo'.",
        "Run 'vmorch down -p demo' first, or publish another, or let vmorch choose one "
        "(ports: ['8080']).",
    ]


def test_time_and_holder_of_up(run: Run) -> None:
    assert run("up", "--ttl", "1h30m", "--holder", str(os.getpid()))[0] == 0
    (view,) = json.loads(run("env", "ls", "-o", "json")[1])
    assert view["holder"] == str(os.getpid())
    assert 5390 < view["expires_at"] - time.time() <= 5400
    assert f"in 1h 29m or with process {os.getpid()}" in run("env", "ls")[1]


def test_the_console_shows_and_ends_by_its_escape(daemon: Any, run: Run) -> None:
    run("up")
    process = subprocess.Popen(
        [sys.executable, "-m", "vmorch.cli.main", "console", "web"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "VMORCH_SOCKET": str(daemon.settings.socket)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.read(7) == b"login: "
    os.write(process.stdin.fileno(), b"root")
    assert process.stdout.read(5) == b".root"
    os.write(process.stdin.fileno(), b"\x1d")
    assert process.wait(timeout=20) == 0
    assert daemon.sessions.consoles == ["abcdef-demo-web-1"]
    process.communicate()


def test_the_console_s_log_is_printed(daemon: Any, run: Run) -> None:
    run("up")
    daemon.write_log("demo", "web-1", "kernel says\n", name="console")
    assert run("console", "--log", "web-1")[:2] == (0, "kernel says\n")


def test_help_has_topics_with_examples_and_commands(run: Run) -> None:
    from vmorch.cli.topics import TOPICS

    listed = run("help")[1]
    for name, (about, text) in TOPICS.items():
        assert f"{name} " in listed
        assert about in listed
        assert run("help", name)[:2] == (0, f"{about}\n\n{text}")
        assert any(line.startswith("  ") for line in text.splitlines())
        assert max(map(len, text.splitlines())) <= 99
    assert run("help", "up")[1] == run("up", "--help")[1]
    assert run("help", "nope")[0] == 4


def test_the_examples_of_topics_are_commands_that_there_are() -> None:
    """Each is understood by its command: no misspelt word or option."""
    import shlex

    import click
    from typer.main import get_command

    from vmorch.cli.main import app
    from vmorch.cli.topics import TOPICS

    root = get_command(app)
    assert isinstance(root, click.Group)
    for _, text in TOPICS.values():
        for line in text.splitlines():
            if not line.startswith("  vmorch "):
                continue
            example = line.strip().split("   ")[0].split(" || ")[0].split("; ")[0]
            words = shlex.split(example.replace("$$", "1"))[1:]
            with root.make_context("vmorch", list(words)) as context:
                _, command, rest = root.resolve_command(
                    context, [*context._protected_args, *context.args]
                )
                assert command is not None, line
                command.make_context("x", rest, parent=context)


WRONG = [
    (4, ["stop", "nope"]),
    (4, ["-p", "nope", "stop"]),
    (4, ["start", "web-9"]),
    (4, ["restart", "nope"]),
    (4, ["pause", "nope"]),
    (4, ["unpause", "nope"]),
    (4, ["console", "nope"]),
    (4, ["console", "--log", "nope"]),
    (4, ["-p", "nope", "port", "web"]),
    (2, ["port", "web", "abc"]),
    (2, ["cp", "a", "b"]),
    (2, ["cp", "web-1:/a", "web-2:/b"]),
    (2, ["cp", "web-1:", "b"]),
    (4, ["cp", "/no/such/file", "web-1:/tmp"]),
    (4, ["cp", "nope-1:/etc/hosts", "."]),
    (4, ["cp", "web-1:/etc/hosts", "/no/such/directory/file"]),
    (4, ["env", "rm", "nope"]),
    (4, ["down", "--dry-run", "-p", "nope"]),
    (2, ["up", "--ttl", "soon"]),
    (2, ["up", "--ttl", "0s"]),
    (2, ["up", "--ttl", "5"]),
    (4, ["up", "--holder", "4194304"]),
    (4, ["up", "--holder", "0"]),
    (2, ["up", "--holder", "me"]),
    (4, ["up", "--dry-run", "nope"]),
    (4, ["up", "-f", "/no/such/file"]),
    (4, ["up", "--scale", "nope=1"]),
    (2, ["stpo"]),
    (5, ["--socket", "/no/such/socket", "stop"]),
    (5, ["--socket", "/no/such/socket", "up", "--dry-run"]),
    (5, ["--socket", "/no/such/socket", "console", "web-1"]),
    (5, ["--socket", "/no/such/socket", "cp", "web-1:/a", "."]),
]


@pytest.mark.parametrize(("code", "words"), WRONG, ids=lambda value: str(value))
def test_what_is_wrong_is_one_line_and_what_to_do_another(
    run: Run, code: int, words: list[str]
) -> None:
    run("up")
    got, out, err = run(*words)
    assert (got, out) == (code, "")
    lines = err.splitlines()
    assert len(lines) == 2, err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in err


def test_a_full_disk_of_the_daemon_is_told_as_such(run: Run, daemon: Any) -> None:
    async def full(*_: Any, **__: Any) -> None:
        raise StoreError(
            "The database cannot be written: the disk is full.", hint="Free some space."
        )

    daemon.store.apply = full
    code, _, err = run("up")
    assert code == 1
    assert err.splitlines()[-2:] == [
        "error: The database cannot be written: the disk is full.",
        "Free some space.",
    ]


def test_a_daemon_that_comes_back_during_a_wait_is_waited_for(
    run: Run, daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.final_state = State.STARTING
    run("up", "-d")
    socket = daemon.settings.socket
    away = socket.with_suffix(".away")

    def restarted() -> None:
        time.sleep(1.0)
        socket.rename(away)
        time.sleep(1.0)
        daemon.final_state = State.READY
        away.rename(socket)
        daemon._loop.call_soon_threadsafe(daemon._wake)

    thread = threading.Thread(target=restarted)
    thread.start()
    code, _, err = run("wait", "--timeout", "30")
    thread.join()
    assert code == 0
    assert err.count("The daemon went away; waiting for it to come back.") == 1


def test_a_daemon_that_stays_away_is_5(
    run: Run, daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vmorch.cli import waiting

    monkeypatch.setattr(waiting, "_AWAY_SECONDS", 0.5)
    daemon.final_state = State.STARTING
    run("up", "-d")
    timer = threading.Timer(1.0, daemon.settings.socket.unlink)
    timer.start()
    code, _, err = run("wait", "--timeout", "30")
    timer.join()
    assert (code, "Traceback" in err) == (5, False)
    assert err.splitlines()[-2].startswith("error: No daemon answers")
    with contextlib.suppress(OSError):
        daemon.settings.socket.unlink()


def test_logs_of_access_are_of_that_environment_and_of_whom_one_asks(run: Run, daemon: Any) -> None:
    run("up")
    line = Access(
        time=1795539076.5,
        environment="demo",
        service="web",
        instance="web-1",
        client="127.0.0.1",
        http=1,
        tls="",
        method="GET",
        host="web.localhost",
        uri="/\x1b[31m",
        status=200,
        sent_bytes=1,
        received_bytes=2,
        seconds=0.0125,
        wait_seconds=0.0,
        connect_seconds=0.0,
        answer_seconds=0.012,
        end="--",
    )
    late = replace(
        line, time=line.time + 60, service="db", instance=None, status=503, tls="TLSv1.3"
    )
    daemon.proxy.log = [line, replace(line, environment="other"), late]
    code, out, _ = run("logs", "--access")
    rows = [row.split()[1:] for row in out.splitlines()]
    assert code == 0
    assert [row[:2] for row in rows] == [["web-1", "200"], ["db", "503"]]
    assert rows[0][2:5] == ["12", "ms", "127.0.0.1"]
    assert "\x1b" not in out
    assert [row[-1][:8] for row in rows] == ["http://w", "https://"]
    assert run("logs", "--access", "web-1")[1] == out.splitlines()[0] + "\n"
    assert run("logs", "--access", "-n", "1")[1] == out.splitlines()[1] + "\n"
    assert run("logs", "--access", "-n", "0")[1] == ""
    shown = json.loads(run("logs", "--access", "db", "-o", "json")[1])
    assert (shown["service"], shown["instance"], shown["seconds"]) == ("db", None, 0.0125)
    assert run("logs", "--access", "-f")[0] == 2
    assert run("-p", "none", "logs", "--access")[0] == 4
