"""vmorch stop."""

from __future__ import annotations

from typing import Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.goal_app import pursue
from vmorch.cli.options import Detach, Files, Guests, ProjectName, Timeout

app = new_app()


@app.command(
    "stop",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch stop orders", "all instances of orders"),
        ("vmorch stop orders-2 db", "one instance, and all of db"),
        ("vmorch stop --sleep", "everything; 'vmorch start' goes on where it was"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    names: Guests,
    sleep: Annotated[
        bool,
        typer.Option("--sleep", help="Save their memory instead, and go on from it at 'start'."),
    ] = False,
    detach: Detach = False,
    timeout: Timeout = None,
    files: Files,
    project: ProjectName = None,
) -> None:
    """Shut guests down; they keep names, disks and addresses. 'vmorch start' goes on."""
    goal = "sleep" if sleep else "stop"
    pursue(ctx, goal, names, detach=detach, timeout=timeout, files=files, project=project)
