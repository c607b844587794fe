"""vmorch ps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import Session, session_of
from vmorch.cli.options import Files, Output, ProjectName, Services
from vmorch.cli.output import INSTANCE_HEADER, instance_row, print_json, print_table, say
from vmorch.cli.project import find_environment, is_named
from vmorch.errors import NotFound

if TYPE_CHECKING:
    from vmorch.model.view.instance import InstanceView


app = new_app()


@app.command(
    "ps",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch ps", "this directory's environment, or all where there is no file"),
        ("vmorch ps -p shop orders", "the instances of one service"),
        ("vmorch ps -a -o json", "every instance on the host, for programs"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    services: Services,
    everything: Annotated[bool, typer.Option("-a", "--all", help="Of all environments.")] = False,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """List instances. Changes nothing."""
    session = session_of(ctx, files=files, project=project)
    environment = None if everything else find_environment(session)
    rows = _rows(session, environment, services)
    if output == "json":
        print_json(rows)
        return
    now = time.time()
    if environment:
        print_table(INSTANCE_HEADER, [instance_row(row, now) for row in rows])
    else:
        header = ("ENVIRONMENT", *INSTANCE_HEADER)
        print_table(header, [[row.environment, *instance_row(row, now)] for row in rows])


def _rows(session: Session, environment: str | None, services: list[str]) -> list[InstanceView]:
    client = session.client
    try:
        if services and environment:
            return [row for name in services for row in client.instances(environment, name)]
        return [
            row for row in client.instances(environment) if not services or row.service in services
        ]
    except NotFound:
        # A file that is not up has no instances; a name that somebody typed must exist.
        if services or is_named(session):
            raise
        say(f"'{environment}' is not up.")
        return []
