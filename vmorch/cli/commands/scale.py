"""vmorch scale."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import counts, session_of
from vmorch.cli.completion import scales
from vmorch.cli.options import DryRun, Files, Output, ProjectName, Timeout
from vmorch.cli.output import print_json
from vmorch.cli.project import require_environment

if TYPE_CHECKING:
    from vmorch.client import Client
    from vmorch.model.view.environment import EnvironmentView
    from vmorch.model.view.instance import InstanceView

app = new_app()


@app.command(
    "scale",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch scale orders=3", "three instances of orders; wait until they are ready"),
        ("vmorch scale orders=0 front=2 -d", "several at once, without waiting"),
        ("vmorch scale orders=1 --dry-run", "which instances would go"),
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
    dry_run: DryRun = False,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Change how many instances services have. The next 'up' sets what the file says; a service
    with 'autoscale' keeps the number until its load asks for another."""
    replicas = counts(services)
    session = session_of(ctx, files=files, project=project)
    name = require_environment(session)
    client = session.client
    if dry_run:
        from vmorch.cli.dryrun import show_steps

        show_steps(client.preview_scale(name, replicas), output)
        return
    environment = client.scale(name, replicas)
    rows = client.instances(name) if detach else _ready(client, environment, replicas, timeout)
    if output == "json":
        print_json([row for row in rows if row.service in replicas])


def _ready(
    client: Client, environment: EnvironmentView, services: Collection[str], timeout: float | None
) -> list[InstanceView]:
    from vmorch.cli.progress import reporter
    from vmorch.cli.waiting import Limits, wait_ready

    limits = Limits(timeout_seconds=timeout)
    with reporter() as report:
        return wait_ready(client, environment, report, services=frozenset(services), limits=limits)
