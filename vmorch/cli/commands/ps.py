"""vmorch ps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import Session, session_of
from vmorch.cli.measures import STATS_HEADER, stats_cells
from vmorch.cli.options import Files, Output, ProjectName, Services
from vmorch.cli.output import INSTANCE_HEADER, clean, instance_row, print_json, print_table, say
from vmorch.cli.project import find_environment, is_named
from vmorch.errors import NotFound

if TYPE_CHECKING:
    from vmorch.client import Client
    from vmorch.model.use import InstanceUse
    from vmorch.model.view.instance import InstanceView


app = new_app()


@app.command(
    "ps",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch ps", "this directory's environment, or all where there is no file"),
        ("vmorch ps -p shop orders", "the instances of one service"),
        ("vmorch ps --stats", "and how much CPU and memory each one uses"),
        ("vmorch ps -a -o json", "every instance on the host, for programs"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    services: Services,
    everything: Annotated[bool, typer.Option("-a", "--all", help="Of all environments.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="And what each one uses.")] = False,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """List instances. Changes nothing."""
    session = session_of(ctx, files=files, project=project)
    environment = None if everything else find_environment(session)
    rows = _rows(session, environment, services)
    measures = _measures(session, environment) if stats and rows else {}
    if output == "json":
        print_json(_with_measures(rows, measures) if stats else rows)
        return
    header: Sequence[str] = INSTANCE_HEADER
    now = time.time()
    cells = [instance_row(row, now) for row in rows]
    if stats:
        header = (*header[:-1], *STATS_HEADER, header[-1])
        cells = [
            [*line[:-1], *stats_cells(measures.get((row.environment, row.instance))), line[-1]]
            for row, line in zip(rows, cells, strict=True)
        ]
    if environment is None:
        header = ("ENVIRONMENT", *header)
        cells = [[row.environment, *line] for row, line in zip(rows, cells, strict=True)]
    print_table(header, cells)
    for line in _addresses(rows, with_environment=environment is None):
        print(line)
    _tell_rollouts(session.client, rows)


def _addresses(rows: list[InstanceView], *, with_environment: bool) -> list[str]:
    """Where their services are reached, each said once."""
    found = [
        (f"{row.environment}/{row.service}" if with_environment else row.service, url)
        for row in rows
        for url in row.urls
    ]
    return [f"{service}: {url}" for service, url in dict.fromkeys(found)]


def _tell_rollouts(client: Client, rows: list[InstanceView]) -> None:
    from vmorch.cli.rollouts import told_rollouts

    for environment in sorted({row.environment for row in rows}):
        shown = {row.service for row in rows if row.environment == environment}
        for line in told_rollouts(client, environment, shown):
            print(clean(line))


def _measures(session: Session, environment: str | None) -> dict[tuple[str, str], InstanceUse]:
    measured = session.client.measured_instances(environment)
    return {(row.environment, row.instance): row.now for row in measured}


def _with_measures(
    rows: list[InstanceView], measures: dict[tuple[str, str], InstanceUse]
) -> list[dict[str, Any]]:
    return [{**asdict(row), "stats": measures.get((row.environment, row.instance))} for row in rows]


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
