from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmorch.cli.commands import daemon as commands

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """What is started in the daemon's place: a shell script, found as the interpreter."""
    monkeypatch.setenv("VMORCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("VMORCH_CONFIG", str(tmp_path / "no-config.toml"))

    def install(text: str) -> None:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return install


def test_start_waits_until_the_socket_answers(
    run: Run, daemon: Any, program: Callable[[str], None], tmp_path: Path
) -> None:
    socket = tmp_path / "s"
    program(f'echo "$@"; sleep 0.2; ln -s {daemon.settings.socket} {socket}')
    code, out, err = run("--socket", str(socket), "daemon", "start")
    assert (code, out) == (0, "")
    assert f"process {os.getpid()}" in err
    log = tmp_path / "state" / "daemon.log"
    assert log.read_text() == f"-m vmorch.cli.main --socket {socket} daemon run\n"
    assert log.stat().st_mode & 0o007 == 0
    assert "runs already" in run("--socket", str(socket), "daemon", "start")[2]


def test_a_daemon_that_dies_shows_the_end_of_its_log(
    run: Run, program: Callable[[str], None], tmp_path: Path
) -> None:
    program("echo first; echo the reason >&2; exit 3")
    code, _, err = run("--socket", str(tmp_path / "s"), "daemon", "start")
    assert code == 1
    assert "  | the reason" in err
    assert "exit code 3" in err


def test_a_daemon_that_does_not_answer_in_time_is_6(
    run: Run, program: Callable[[str], None], tmp_path: Path
) -> None:
    program("exec sleep 1")
    arguments = ["--socket", str(tmp_path / "s"), "daemon", "start", "--timeout", "0.2"]
    assert run(*arguments)[0] == 6


def test_a_state_directory_that_cannot_be_written(
    run: Run, program: Callable[[str], None], tmp_path: Path
) -> None:
    program("exit 0")
    (tmp_path / "state").write_text("a file in its place")
    code, _, err = run("--socket", str(tmp_path / "s"), "daemon", "start")
    assert code == 1
    assert err.startswith("error: The daemon cannot be started")


def test_stop_waits_until_nobody_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # The daemon's process is this one, which lives on.
    monkeypatch.setattr(commands, "_alive", lambda pid: False)
    assert run("daemon", "status")[0] == 0
    assert run("daemon", "stop")[0] == 0
    assert run("daemon", "status")[0] == 5
    assert run("daemon", "stop")[0] == 5
