"""The HAProxy program: starts it detached, finds it again, ends it. Blocking; no configuration.

The master is root and detached (`-W -D`), so that it outlives the daemon. A child of a systemd
unit dies with the unit: where systemd is the service manager, `start` has to run the same
command line in a unit of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from vmorch.errors import ProxyError
from vmorch.proxy.place import Place

_PROC = Path("/proc")
_POLL_SECONDS = 0.02
_START_SECONDS = 60.0
_CHECK_SECONDS = 60.0
_END_SECONDS = 5.0
_REPLACE_SECONDS = 0.2


class Program:
    """One installation's HAProxy, known by the path of its configuration in its command line."""

    def __init__(self, place: Place, *, binary: str = "haproxy") -> None:
        self._place = place
        self._binary = binary

    def master(self) -> int | None:
        """The master's process id, or None. Cheap while the pid file is right."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._place.pid_file.read_text())
            _wait(lambda: not _replaces_itself(pid), _REPLACE_SECONDS)
            if self._is_ours(pid):
                return pid
        return self._found_master()

    def _found_master(self) -> int | None:
        """The master without its pid file: the one of ours whose parent is none of ours."""
        ours = self.processes()
        for pid in ours:
            if _parent(pid) not in ours and _has_children(pid, ours):
                self._make_run_dir()
                self._place.pid_file.write_text(f"{pid}\n")
                return pid
        return None

    def processes(self) -> set[int]:
        """Master and workers."""
        numbers = (int(path.name) for path in _PROC.iterdir() if path.name.isdigit())
        return {pid for pid in numbers if self._is_ours(pid)}

    def _is_ours(self, pid: int) -> bool:
        # A zombie's command line is empty, so it is none of ours.
        try:
            argv = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"-W" in argv and os.fsencode(self._place.config_file) in argv

    def check(self, file: Path) -> None:
        """Let HAProxy itself read a configuration.

        Raises:
            ProxyError: it refuses, in its own words.
        """
        code, output = self._run(["-c", "-f", str(file)], _CHECK_SECONDS)
        if code != 0:
            raise ProxyError(
                f"HAProxy refuses the new configuration: {alerts(output)}",
                hint="The configuration before it still runs. Correct what HAProxy names.",
            )

    def start(self) -> None:
        """Start the master and its worker with the configuration file, detached.

        Raises:
            ProxyError: it did not start, in its own words.
        """
        self._make_run_dir()
        self._end(self.processes())
        place = self._place
        arguments = ["-W", "-D", "-S", f"{place.master_socket},mode,600"]
        arguments += ["-f", str(place.config_file), "-p", str(place.pid_file)]
        code, output = self._run(arguments, _START_SECONDS)
        if code != 0:
            raise ProxyError(
                f"HAProxy does not start: {alerts(output)}", hint="Correct what HAProxy names."
            )

    def _make_run_dir(self) -> None:
        """Workers pass through to sockets of their own; those of root are closed to them."""
        self._place.run_dir.mkdir(parents=True, exist_ok=True)
        self._place.run_dir.chmod(0o711)

    def stop(self) -> None:
        """End master and workers, whatever they are doing; remove every file."""
        self._end(self.processes())
        place = self._place
        sockets = (place.master_socket, place.admin_socket, *place.gate_sockets())
        for file in (*sockets, place.pid_file):
            file.unlink(missing_ok=True)
        for file in (place.config_file, place.candidate_file, place.hold_program):
            file.unlink(missing_ok=True)

    def _end(self, pids: set[int]) -> None:
        """SIGTERM, then SIGKILL: the master passes the first on, and a worker whose master died
        ends by itself, but neither is certain."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not pids:
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            _wait(lambda: not self.processes(), _END_SECONDS)
            pids = self.processes()

    def _run(self, arguments: list[str], seconds: float) -> tuple[int, str]:
        # A file, not a pipe: whoever inherits a pipe would keep us waiting for its end.
        with tempfile.TemporaryFile() as output:
            try:
                done = subprocess.run(
                    [self._binary, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    timeout=seconds,
                    check=False,
                )
            except FileNotFoundError as error:
                raise ProxyError(
                    f"The program '{self._binary}' is not installed.",
                    hint="Install HAProxy 2.6 or newer, then try again.",
                ) from error
            except subprocess.TimeoutExpired as error:
                raise ProxyError(
                    f"HAProxy did not finish within {seconds:g} s.", retryable=True
                ) from error
            output.seek(0)
            return done.returncode, output.read().decode(errors="replace")


async def ended(pid: int) -> None:
    """Return when that process has ended; at once when there is none."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, end.set)
        await end.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def alerts(output: str) -> str:
    """The lines that say what is wrong, without process ids and repetition."""
    lines = [line for line in output.splitlines() if line.startswith("[ALERT]")] or [
        line for line in output.splitlines() if line.strip()
    ]
    texts = (line.partition(") : ")[2] or line for line in lines)
    kept = [text for text in texts if not text.startswith(("config : Error", "config : Fatal"))]
    return "; ".join(kept) or "it does not say why."


def _replaces_itself(pid: int) -> bool:
    """Whether it is in the middle of `exec`, as a master is at each reload: for a moment it has no
    command line, and is no zombie, which has none either."""
    try:
        return not (_PROC / str(pid) / "cmdline").read_bytes() and _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def _parent(pid: int) -> int:
    try:
        return int(_stat(pid)[1])
    except (OSError, ValueError, IndexError):
        return 0


def _stat(pid: int) -> list[str]:
    """State, parent, … of a process. Raises OSError: there is none."""
    # pid (name) state ppid …; the name may hold anything but ends at the last parenthesis.
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _has_children(pid: int, among: Iterable[int]) -> bool:
    return any(_parent(other) == pid for other in among)


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
