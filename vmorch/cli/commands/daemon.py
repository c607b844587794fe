"""vmorch daemon."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import Session, session_of
from vmorch.cli.options import POSITIVE, Output
from vmorch.cli.output import print_json, print_table, say, size
from vmorch.errors import DaemonUnreachable, TimedOut, VmorchError

if TYPE_CHECKING:
    from vmorch.config import Settings
    from vmorch.model.view.daemon import CapacityView

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_TAIL_BYTES = 4096
_TAIL_LINES = 15


app = new_app("Run, start and stop the daemon. Guests and the proxy outlive it.")


@app.command("run")
def run(ctx: typer.Context) -> None:
    """Run the daemon in the foreground, as a service manager wants it."""
    session = session_of(ctx)
    if session.socket_option is not None:
        os.environ["VMORCH_SOCKET"] = str(session.socket_option.absolute())
    import_module("vmorch.daemon").main()


@app.command("start")
def start(
    ctx: typer.Context,
    *,
    timeout: Annotated[
        float,
        typer.Option(
            click_type=POSITIVE, metavar="SECONDS", help="How long it may take to answer."
        ),
    ] = _START_SECONDS,
) -> None:
    """Start the daemon in the background and wait until it answers.

    It writes to daemon.log in the state directory. Running already: fine.
    """
    session = session_of(ctx)
    settings = _settings(session)
    session.socket_option = settings.socket
    if pid := _answering(session):
        say(f"The daemon runs already (process {pid}).")
        return
    log = settings.state_dir / "daemon.log"
    process = _spawned(settings, log)
    deadline = time.monotonic() + timeout
    while (pid := _answering(session)) is None:
        if process.poll() is not None:
            _show_tail(log)
            raise VmorchError(
                f"The daemon ended at once, with exit code {process.returncode}.",
                hint=f"The end of {log} is above; 'vmorch doctor' checks the host.",
            )
        if time.monotonic() >= deadline:
            _show_tail(log)
            raise TimedOut(
                f"The daemon (process {process.pid}) does not answer after {timeout:.0f} s.",
                hint=f"It goes on starting; see {log}.",
            )
        time.sleep(0.05)
    say(f"The daemon runs (process {pid}, log {log}).")


@app.command("stop")
def stop(ctx: typer.Context) -> None:
    """Stop the daemon and wait until it is gone. Guests go on running."""
    session = session_of(ctx)
    client = session.client
    pid = client.version().pid
    client.stop_daemon()
    deadline = time.monotonic() + _STOP_SECONDS
    while _answering(session) is not None or _alive(pid):
        if time.monotonic() >= deadline:
            raise TimedOut(
                f"The daemon (process {pid}) has not ended after {_STOP_SECONDS:.0f} s.",
                hint="Its log says what it waits for.",
            )
        time.sleep(0.05)
    say("The daemon has stopped. Guests and the proxy go on running.")


@app.command("status")
def status(ctx: typer.Context, *, output: Output = "table") -> int:
    """Say whether the daemon runs, and what of the host is free; exit code 5 when it does not."""
    session = session_of(ctx)
    try:
        version = session.client.version()
        capacity = session.client.capacity()
    except DaemonUnreachable as error:
        if output == "json":
            print_json({"running": False, "socket": session.socket, "reason": error.message})
        else:
            say(error.message)
            say(error.hint)
        return error.exit_code
    if output == "json":
        print_json(
            {
                "running": True,
                "socket": session.socket,
                "pid": version.pid,
                "version": version.version,
                "installation": version.installation,
                "capacity": capacity,
            }
        )
    else:
        print(f"running, process {version.pid}, version {version.version}, {session.socket}")
        print_table(("", "HOST", "KEPT", "RESERVED", "FREE"), _capacity_rows(capacity))
    return 0


def _capacity_rows(capacity: CapacityView) -> list[list[str]]:
    """For each kind what the host has, and what becomes of it. Disks take what is in them, so none
    of that is reserved."""
    memory = (
        capacity.memory_bytes,
        capacity.memory_kept_bytes,
        capacity.memory_reserved_bytes,
        capacity.memory_free_bytes,
    )
    times = f"{capacity.cpus} x {capacity.cpu_overcommit:g}"
    left, kept = size(capacity.disk_left_bytes), size(capacity.disk_kept_bytes)
    return [
        ["memory", *map(size, memory)],
        ["CPUs", times, "-", f"{capacity.cpus_reserved:g}", f"{capacity.cpus_free:g}"],
        ["disk", left, kept, "-", size(capacity.disk_free_bytes)],
    ]


@app.command(
    "restore",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch daemon restore", "go back to the newest copy that is good"),
        ("vmorch daemon restore --from backups/vmorch-20260102T030405Z.db", "to this one"),
    ),
)
def restore(
    ctx: typer.Context,
    *,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="COPY", help="A file of 'backups' in the state directory."),
    ] = None,
) -> None:
    """Put back a copy of a damaged database; the daemon must not run.

    Guests are not touched. Those that the copy does not know are reported by 'vmorch doctor'.
    """
    used = import_module("vmorch.daemon").restore(source)
    say(f"The database is {used} again; the damaged one is kept as 'vmorch.db.damaged'.")
    say("Start the daemon with 'vmorch daemon start'.")


@app.command("rebuild")
def rebuild(ctx: typer.Context) -> None:
    """Make a new database from the guests that run; the daemon must not run.

    For when no copy is left. Guests run on as they are; what cannot be known of them, such as
    ports, routes and health checks, comes back with the next 'vmorch up' of each environment.
    """
    found = import_module("vmorch.daemon").rebuild()
    for guest in found:
        say(f"{guest.environment}: {guest.service}-{guest.ordinal}")
    say(f"{len(found)} guests are known again. Start the daemon with 'vmorch daemon start', then")
    say("run 'vmorch up' for each environment: its guests are adopted, not replaced.")


def _settings(session: Session) -> Settings:
    from dataclasses import replace

    from vmorch.config import load_settings

    settings = load_settings()
    if session.socket_option is not None:
        settings = replace(settings, socket=session.socket_option.absolute())
    return settings


def _answering(session: Session) -> int | None:
    """The process id of the daemon that answers."""
    try:
        return session.client.version().pid
    except DaemonUnreachable as error:
        if isinstance(error.__cause__, PermissionError):
            raise
        return None


def _spawned(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    """The daemon in a session of its own, so that no terminal takes it along."""
    arguments = [sys.executable, "-m", "vmorch.cli.main", "--socket", str(settings.socket)]
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        log.touch(mode=0o640)
        with log.open("ab") as output:
            return subprocess.Popen(
                [*arguments, "daemon", "run"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )
    except OSError as error:
        raise VmorchError(
            f"The daemon cannot be started: {error.filename}: {error.strerror}.",
            hint="It needs root, or a 'state_dir' of your own in the settings.",
        ) from error


def _show_tail(log: Path) -> None:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        for line in file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]:
            say(f"  | {line}")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A zombie that nobody has reaped has ended all the same.
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
