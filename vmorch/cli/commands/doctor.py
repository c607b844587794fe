"""vmorch doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import Session, session_of
from vmorch.cli.options import Output
from vmorch.cli.output import clean, print_json
from vmorch.errors import DaemonUnreachable
from vmorch.model.view import Check

if TYPE_CHECKING:
    from vmorch.client import Client


app = new_app()


@app.command(
    "doctor", cls=ExampleCommand, epilog=examples(("vmorch doctor -o json", "for programs"))
)
def command(ctx: typer.Context, *, output: Output = "table") -> int:
    """Check what this host needs; with a running daemon, what that finds too.

    The exit code is 1 when something must be put right. Changes nothing.
    """
    checks = findings(session_of(ctx))
    if output == "json":
        print_json(checks)
    else:
        for check in checks:
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<20}  {clean(check.message)}")
            if check.hint:
                print(f"{'':<28}{clean(check.hint)}")
    return 0 if all(check.ok for check in checks) else 1


def findings(session: Session) -> list[Check]:
    """The host's, then the daemon's; the daemon knows better where both looked."""
    from vmorch.cli.hostchecks import host_checks
    from vmorch.config import load_settings

    daemon, of_daemon = _daemon(session)
    known = {check.name for check in of_daemon}
    of_host = host_checks(load_settings(), daemon_runs=daemon.message.startswith("runs"))
    return [*(check for check in of_host if check.name not in known), daemon, *of_daemon]


def _daemon(session: Session) -> tuple[Check, list[Check]]:
    client = session.client
    try:
        version = client.version()
        checks = [_acceleration(client), *client.doctor()]
    except DaemonUnreachable as error:
        # Not having started it yet is no fault of the host; not being let in is.
        denied = isinstance(error.__cause__, PermissionError)
        check = Check(name="daemon", ok=not denied, message=error.message, hint=error.hint)
        return check, []
    return Check(name="daemon", ok=True, message=f"runs, version {version.version}"), checks


def _acceleration(client: Client) -> Check:
    """What the daemon found by booting a kernel, in place of a look at /dev/kvm."""
    found = client.acceleration()
    slower = f", some {found.time_scale:.0f} times slower" if found.time_scale > 1 else ""
    return Check(
        name="kvm",
        ok=True,
        message=f"guests run under {found.acceleration}{slower}: {found.reason}",
    )
