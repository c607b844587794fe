"""vmorch scale."""

from __future__ import annotations

from typing import Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import counts, session_of
from vmorch.cli.completion import scales
from vmorch.cli.options import Files, ProjectName, Timeout
from vmorch.cli.project import require_environment

app = new_app()


@app.command(
    "scale",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch scale orders=3", "three instances of orders; wait until they are ready"),
        ("vmorch scale orders=0 front=2 -d", "several at once, without waiting"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    services: Annotated[
        list[str],
        typer.Argument(
            metavar="SERVICE=N...",
            autocompletion=scales,
            help="How many instances each has.",
        ),
    ],
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Do not wait until they are ready.")
    ] = False,
    timeout: Timeout = None,
    files: Files,
    project: ProjectName = None,
) -> None:
    """Change how many instances services have. The next 'up' sets what the file says."""
    replicas = counts(services)
    session = session_of(ctx, files=files, project=project)
    name = require_environment(session)
    client = session.client
    environment = client.scale(name, replicas)
    if detach:
        return
    from vmorch.cli.progress import reporter
    from vmorch.cli.waiting import Limits, wait_ready

    with reporter() as report:
        wait_ready(
            client,
            environment,
            report,
            services=frozenset(replicas),
            limits=Limits(timeout_seconds=timeout),
        )
