"""vmorch stop."""

from __future__ import annotations

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.options import Detach, Files, Guests, ProjectName, Timeout
from vmorch.cli.project import require_environment

app = new_app()


@app.command(
    "stop",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch stop orders", "all instances of orders"),
        ("vmorch stop orders-2 db", "one instance, and all of db"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    names: Guests,
    detach: Detach = False,
    timeout: Timeout = None,
    files: Files,
    project: ProjectName = None,
) -> None:
    """Shut guests down; they keep names, disks and addresses. 'vmorch start' goes on."""
    from vmorch.cli.goals import reach

    session = session_of(ctx, files=files, project=project)
    environment = require_environment(session)
    reach(session.client, environment, "stop", names, timeout=timeout, detach=detach)
