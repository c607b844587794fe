"""vmorch wait."""

from __future__ import annotations

from typing import Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.options import Files, ProjectName, Services, Timeout
from vmorch.cli.project import require_environment
from vmorch.errors import NotFound

app = new_app()


@app.command(
    "wait",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch wait", "until every service is ready"),
        ("vmorch wait db --timeout 60", "until db is; exit code 6 after a minute"),
        ("vmorch wait --gone -p shop", "until nothing of 'shop' is left"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    services: Services,
    gone: Annotated[
        bool, typer.Option("--gone", help="Wait until the environment is gone.")
    ] = False,
    timeout: Timeout = None,
    files: Files,
    project: ProjectName = None,
) -> None:
    """Wait until an environment (or some of its services) is ready, or gone."""
    from vmorch.cli.progress import reporter
    from vmorch.cli.waiting import Limits, wait_gone, wait_ready

    session = session_of(ctx, files=files, project=project)
    name = require_environment(session)
    client = session.client
    limits = Limits(timeout_seconds=timeout)
    with reporter() as report:
        if gone:
            wait_gone(client, name, report, limits=limits)
            return
        environment = client.environment(name)
        for service in services:
            if service not in environment.services:
                raise NotFound(
                    f"Environment '{name}' has no service '{service}'.",
                    hint=f"Its services: {', '.join(environment.services)}.",
                )
        wait_ready(client, environment, report, services=frozenset(services), limits=limits)
