"""vmorch ssh."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.commands.exec_ import enter
from vmorch.cli.common import session_of
from vmorch.cli.options import Files, Guest, ProjectName, any_number

app = new_app()


@app.command(
    "ssh",
    cls=ExampleCommand,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    epilog=examples(
        ("vmorch ssh orders-1", "a login shell as root"),
        ("vmorch ssh -u app orders-1 uptime", "one command as another user, at home"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    user: Annotated[str, typer.Option("-u", "--user", help="Whose shell.")] = "root",
    files: Files,
    project: ProjectName = None,
    instance: Guest,
    argv: Annotated[
        list[str],
        any_number(
            metavar="[COMMAND]...", help="A command line for the shell, instead of what is typed."
        ),
    ],
) -> int:
    """Open a shell in an instance, with the installation's key: nothing to set up or accept."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    variables = {"TERM": os.environ["TERM"]} if terminal and "TERM" in os.environ else {}
    # A command line goes to a shell, as ssh does it.
    line = ("/bin/sh", "-lc", " ".join(argv)) if argv else None
    return enter(
        session_of(ctx, files=files, project=project),
        instance,
        line,
        tty=terminal and not argv,
        user=user,
        variables=variables,
        working_dir=None,
    )
