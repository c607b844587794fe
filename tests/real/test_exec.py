"""exec, ssh, console and cp against a real Debian guest, with real terminals."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

COMPOSE = """
name: execs
services:
  app:
    build:
      context: .
      dockerfile_inline: |
        FROM debian:12
        RUN useradd -m app && mkdir /srv/app && chown app /srv/app
        WORKDIR /srv/app
        USER app
        ENV COLOUR=green
        CMD ["sleep", "infinity"]
    environment: {PLACE: "the lab"}
    stop_grace_period: 1s
    deploy: {resources: {limits: {cpus: "1", memory: 256M}}}
"""


@pytest.fixture(scope="module")
def guest(daemon: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("execs")
    (directory / "compose.yaml").write_text(COMPOSE)
    daemon.cli("up", cwd=directory)
    yield daemon
    daemon.cli("-p", "execs", "down")


class Terminal:
    """The command line in a pseudo terminal of its own."""

    def __init__(self, daemon: Any, *words: str, rows: int = 31, columns: int = 97) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            command = [sys.executable, "-m", "vmorch.cli.main", "-p", "execs", *words]
            os.execve(command[0], command, {**daemon.environment, "TERM": "xterm"})
        self.resize(rows, columns)
        self.text = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, wanted: str, seconds: float = 60.0) -> str:
        """What was shown since the last call, up to and with `wanted`."""
        end = time.monotonic() + seconds
        os.set_blocking(self.master, False)
        while wanted not in self.text:
            if time.monotonic() > end:
                raise AssertionError(f"{wanted!r} did not come:\n{self.text}")
            with contextlib.suppress(BlockingIOError):
                self.text += os.read(self.master, 4096).decode(errors="replace")
                continue
            time.sleep(0.02)
        shown, _, self.text = self.text.partition(wanted)
        return shown + wanted

    def ended(self, seconds: float = 60.0) -> int:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError):  # EIO once the other side is closed
                self.text += os.read(self.master, 4096).decode(errors="replace")
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.master)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"it did not end:\n{self.text}")


def run(daemon: Any, *words: str) -> subprocess.CompletedProcess[str]:
    done: subprocess.CompletedProcess[str] = daemon.cli("-p", "execs", *words, check=False)
    return done


def test_it_runs_as_the_service_does(guest: Any) -> None:
    line = 'echo "$(id -un) $(pwd) $COLOUR $PLACE $HOME"; exit 7'
    done = run(guest, "exec", "-T", "app", "sh", "-c", line)
    assert done.stdout == "app /srv/app green the lab /home/app\n"
    assert done.returncode == 7
    other = run(guest, "exec", "-T", "-u", "root", "-w", "/etc", "-e", "A=b c", "app-1", "sh", "-c",
                'echo "$(id -un) $(pwd) $A"')  # fmt: skip
    assert other.stdout == "root /etc b c\n"


def test_a_death_by_signal_and_a_missing_command_have_their_codes(guest: Any) -> None:
    assert run(guest, "exec", "-T", "app", "sh", "-c", "kill -9 $$").returncode == 137
    assert run(guest, "exec", "-T", "app", "no-such-command").returncode == 127


def test_a_terminal_has_this_one_s_size_and_follows_it(guest: Any) -> None:
    terminal = Terminal(guest, "exec", "app", "bash", "--norc", "-i")
    terminal.type("PS1='ready> '; tty; stty size\r")
    terminal.until("31 97")
    terminal.resize(40, 120)
    time.sleep(1.0)
    terminal.type("stty size; echo do''ne\r")
    assert "40 120" in terminal.until("done")
    terminal.type("sleep 1000\r")
    time.sleep(2.0)
    terminal.type("\x03")
    terminal.type("echo code $?\r")
    terminal.until("code 130")
    terminal.type("exit 5\r")
    assert terminal.ended() == 5


def test_a_signal_reaches_the_command(guest: Any) -> None:
    line = "trap 'echo caught; exit 3' INT TERM; echo set; while :; do sleep 0.2; done"
    process = subprocess.Popen(
        [sys.executable, "-m", "vmorch.cli.main", "-p", "execs", "exec", "-T", "app", "sh", "-c",
         line],
        env=guest.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "set\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 3
    assert process.stdout.read() == "caught\n"


def test_ssh_is_a_root_login_shell(guest: Any) -> None:
    terminal = Terminal(guest, "ssh", "app-1")
    terminal.type("echo $(id -un) $(pwd) $0 $TERM\r")
    terminal.until("root /root /bin/bash xterm")
    terminal.type("exit 4\r")
    assert terminal.ended() == 4


def test_the_console_is_a_root_shell_and_ends_by_its_escape(guest: Any) -> None:
    terminal = Terminal(guest, "console", "app-1")
    terminal.until("Ctrl-]")
    time.sleep(2.0)
    refused = run(guest, "console", "app-1")
    assert (refused.returncode, "another session" in refused.stderr) == (7, True)
    terminal.type("\r")
    terminal.until("#")
    terminal.type("echo over the $((6*7))th wire\r")
    terminal.until("over the 42th wire")
    terminal.type("\x1d")
    assert terminal.ended() == 0
    assert "over the 42th wire" in run(guest, "console", "--log", "app-1").stdout


def test_files_and_directories_go_both_ways(guest: Any, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "deep").mkdir(parents=True)
    (site / "deep" / "page").write_bytes(os.urandom(3_000_000))
    (site / "run").write_text("#!/bin/sh\n")
    (site / "run").chmod(0o755)
    assert run(guest, "cp", str(site), "app-1:/srv").returncode == 0
    assert run(guest, "cp", str(site / "run"), "app-1:/srv/renamed").returncode == 0
    shown = run(guest, "exec", "-T", "app", "sh", "-c", "ls -l /srv/renamed; ls /srv/site")
    assert shown.stdout.startswith("-rwxr-xr-x 1 root root")
    assert shown.stdout.split()[-2:] == ["deep", "run"]
    back = tmp_path / "back"
    assert run(guest, "cp", "app-1:/srv/site", str(back)).returncode == 0
    assert (back / "deep" / "page").read_bytes() == (site / "deep" / "page").read_bytes()
    into = tmp_path / "into"
    into.mkdir()
    assert run(guest, "cp", "app-1:/srv/renamed", str(into)).returncode == 0
    assert os.access(into / "renamed", os.X_OK)


def test_a_copy_that_cannot_be_says_why(guest: Any, tmp_path: Path) -> None:
    missing = run(guest, "cp", "app-1:/no/such", str(tmp_path))
    assert (missing.returncode, "There is no /no/such" in missing.stderr) == (1, True)
    nowhere = run(guest, "cp", "/etc/hostname", "app-1:/no/such/place")
    assert (nowhere.returncode, "There is no directory /no/such" in nowhere.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []
