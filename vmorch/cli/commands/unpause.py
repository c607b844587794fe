"""vmorch unpause."""

from __future__ import annotations

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.options import Detach, Files, Guests, ProjectName, Timeout
from vmorch.cli.output import say
from vmorch.cli.project import require_environment

app = new_app()


@app.command(
    "unpause",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch unpause orders-1", "one instance"),
        ("vmorch unpause -p shop", "whatever of 'shop' is paused"),
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
    """Go on with what was paused; what was stopped stays so. Wait until it is ready."""
    from vmorch.cli.goals import chosen, reach

    session = session_of(ctx, files=files, project=project)
    environment = require_environment(session)
    client = session.client
    paused = [r.instance for r in chosen(client, environment, names) if r.state == "paused"]
    if paused:
        reach(client, environment, "run", paused, timeout=timeout, detach=detach)
    else:
        say("Nothing is paused.")
