"""vmorch pause."""

from __future__ import annotations

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.options import Detach, Files, Guests, ProjectName, Timeout
from vmorch.cli.project import require_environment

app = new_app()


@app.command(
    "pause",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch pause orders-1", "one instance"),
        ("vmorch pause -p shop", "the whole environment"),
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
    """Freeze guests where they are: no CPU time, memory kept. 'vmorch unpause' goes on."""
    from vmorch.cli.goals import reach

    session = session_of(ctx, files=files, project=project)
    environment = require_environment(session)
    reach(session.client, environment, "pause", names, timeout=timeout, detach=detach)
