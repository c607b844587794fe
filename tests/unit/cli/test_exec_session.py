"""The command line in a process of its own, with pipes and with a real pseudo terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from vmorch.client import Client
from vmorch.model.spec import EnvironmentSpec, ServiceSpec


@pytest.fixture(autouse=True)
def environment(daemon: Any) -> None:
    client = Client(daemon.settings.socket)
    image = client.ensure_image("debian:12", lambda _: None)
    client.apply(
        EnvironmentSpec(name="shop", services={"web": ServiceSpec(name="web", image=image)})
    )
    while not client.instances("shop"):
        pass


def command(daemon: Any, *arguments: str) -> list[str]:
    socket = str(daemon.settings.socket)
    return [sys.executable, "-m", "vmorch.cli.main", "--socket", socket, "-p", "shop", *arguments]


def test_bytes_and_exit_code_pass_through_pipes(daemon: Any) -> None:
    data = bytes(range(256)) * 20_000  # far more than any buffer on the way holds
    done = subprocess.run(
        command(daemon, "exec", "web", "exit", "42"), input=data, capture_output=True, timeout=60
    )
    assert done.returncode == 42
    assert done.stdout == data
    assert done.stderr == b"asked\n"
    assert daemon.sessions.requests[0].tty is False


def test_options_behind_the_instance_are_the_commands_own(daemon: Any) -> None:
    arguments = command(daemon, "exec", "-e", "A=1=2", "-w", "/x", "web", "ls", "-l", "--help")
    assert subprocess.run(arguments, input=b"", capture_output=True, timeout=60).returncode == 0
    (request,) = daemon.sessions.requests
    assert request.argv == ("ls", "-l", "--help")
    assert (request.environment["A"], request.working_dir) == ("1=2", "/x")


def test_a_signal_reaches_the_guest(daemon: Any) -> None:
    running = subprocess.Popen(
        command(daemon, "exec", "web", "sleep"), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stderr
    assert running.stderr.readline() == b"asked\n"
    running.send_signal(signal.SIGTERM)
    assert running.wait(20) == 130
    assert daemon.sessions.signals == [b"TERM"]


def test_a_terminal_is_raw_has_its_size_and_comes_back(daemon: Any) -> None:
    ours, theirs = pty.openpty()
    _resize(theirs, rows=30, columns=100)
    before = termios.tcgetattr(theirs)
    os.write(ours, b"early\r")
    shell = subprocess.Popen(
        command(daemon, "ssh", "web"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        env={**os.environ, "TERM": "xterm"},
    )
    shown = _read_until(ours, b"asked\n")
    if b"early" not in shown.partition(b"asked")[2]:
        assert _read_until(ours, b"early\n")  # typed ahead, and sent back by the guest
    os.write(ours, b"\x03")  # Ctrl-C is a key for the guest now
    assert _read_until(ours, b"\x03")
    _resize(theirs, rows=31, columns=101)
    _wait_for(lambda: daemon.sessions.resizes)
    os.kill(shell.pid, signal.SIGHUP)
    assert shell.wait(20) == 130
    assert termios.tcgetattr(theirs) == before
    (request,) = daemon.sessions.requests
    assert (request.argv, request.tty, request.user) == (None, True, "root")
    assert (request.columns, request.rows) == (100, 30)
    assert request.environment["TERM"] == "xterm"
    assert daemon.sessions.resizes == [(101, 31)]
    os.close(ours)
    os.close(theirs)


def test_a_session_that_breaks_off_is_a_failure(
    daemon: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket
    import threading

    from vmorch.cli.terminal import run_session
    from vmorch.errors import GuestError, VmorchError
    from vmorch.model.frames import Frame, FrameType, encode
    from vmorch.model.problem import to_problem

    quiet, _ = os.pipe()
    kept = os.dup(0)
    os.dup2(quiet, 0)

    def served(answer: bytes) -> Path:
        path = tmp_path / f"s{len(answer)}"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            connection.sendall(answer)
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        return path

    import json

    problem = json.dumps(to_problem(GuestError("No way in.", hint="Look."))).encode()
    try:
        with pytest.raises(VmorchError, match="without an exit code"):
            run_session(served(b""), tty_wanted=False)
        with pytest.raises(GuestError, match="No way in"):
            run_session(served(encode(Frame(FrameType.ERROR, problem))), tty_wanted=False)
        with pytest.raises(VmorchError, match="cannot be joined"):
            run_session(tmp_path / "none", tty_wanted=False)
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def _resize(descriptor: int, *, rows: int, columns: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _read_until(descriptor: int, wanted: bytes) -> bytes:
    found = b""
    while wanted.rstrip(b"\n") not in found:
        found += os.read(descriptor, 4096)
    return found


def _wait_for(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it never came")
