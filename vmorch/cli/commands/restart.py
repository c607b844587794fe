"""vmorch restart."""

from __future__ import annotations

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.options import Files, Guests, ProjectName, Timeout
from vmorch.cli.project import require_environment

app = new_app()


@app.command(
    "restart",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch restart orders", "its instances, one after the other"),
        ("vmorch restart db-1", "one instance"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    names: Guests,
    timeout: Timeout = None,
    files: Files,
    project: ProjectName = None,
) -> None:
    """Stop and start guests, one after the other: a service of several stays reachable."""
    from vmorch.cli.goals import chosen, reach

    session = session_of(ctx, files=files, project=project)
    environment = require_environment(session)
    client = session.client
    for row in chosen(client, environment, names):
        for goal in ("stop", "run"):
            reach(client, environment, goal, [row.instance], timeout=timeout)
