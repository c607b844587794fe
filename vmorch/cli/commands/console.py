"""vmorch console."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.options import Files, Guest, ProjectName
from vmorch.cli.output import say
from vmorch.cli.project import require_environment

app = new_app()


@app.command(
    "console",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch console orders-1", "type and see; Ctrl-] ends the session, not the guest"),
        ("vmorch console --log orders-1", "print what the console has said so far"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    log: Annotated[bool, typer.Option("--log", help="Print what it said, and end.")] = False,
    files: Files,
    project: ProjectName = None,
    instance: Guest,
) -> int:
    """Open an instance's serial console: kernel messages, and after Enter a root shell.

    It needs neither network nor agent in the guest. One session at a time has it.
    """
    session = session_of(ctx, files=files, project=project)
    environment = require_environment(session)
    if log:
        from vmorch.cli.commands.logs import show

        show(session.client, environment, [instance], source="console", prefix=False)
        return 0
    from vmorch.cli.terminal import run_session

    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    path = session.client.open_console(environment, instance)
    if terminal:
        say(f"The console of {instance}; Ctrl-] ends the session.")
    return run_session(path, tty_wanted=terminal, escape=True)
