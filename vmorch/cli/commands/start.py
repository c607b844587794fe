"""vmorch start."""

from __future__ import annotations

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.options import Detach, Files, Guests, ProjectName, Timeout
from vmorch.cli.project import require_environment

app = new_app()


@app.command(
    "start",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch start", "whatever is stopped or paused"),
        ("vmorch start orders-2", "one instance"),
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
    """Start what was stopped, and go on with what was paused; wait until it is ready."""
    from vmorch.cli.goals import reach

    session = session_of(ctx, files=files, project=project)
    environment = require_environment(session)
    reach(session.client, environment, "run", names, timeout=timeout, detach=detach)
