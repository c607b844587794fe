"""vmorch top."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import click
import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.measures import (
    BY_NAME,
    INSTANCE_HEADER,
    SERVICE_HEADER,
    SORT_HELP,
    SORT_KEYS,
    SORTS,
    host_line,
    instance_cells,
    ordered,
    service_cells,
)
from vmorch.cli.options import POSITIVE, Files, Output, ProjectName, Services
from vmorch.cli.output import print_json, table_lines
from vmorch.cli.project import find_environment

if TYPE_CHECKING:
    from vmorch.client import Client
    from vmorch.model.view.measure import MeasuredInstance, MeasuredService

_HELP = f"{SORT_HELP}; s(ervices) q(uit)"

app = new_app()


@app.command(
    "top",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch top", "this directory's environment, live"),
        ("vmorch top -a --sort memory", "all instances on the host, the heaviest first"),
        ("vmorch top --services --once", "what each service costs, once"),
        ("vmorch top -o json", "the last look, for programs"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    services: Services,
    everything: Annotated[bool, typer.Option("-a", "--all", help="Of all environments.")] = False,
    by_service: Annotated[
        bool, typer.Option("--services", help="A row for each service, with what it costs.")
    ] = False,
    sort: Annotated[
        str, typer.Option(click_type=click.Choice([*SORTS]), help="By what; the greatest first.")
    ] = BY_NAME,
    once: Annotated[
        bool, typer.Option("--once", help="Print once; so it is without a terminal.")
    ] = False,
    interval: Annotated[
        float, typer.Option(click_type=POSITIVE, metavar="SECONDS", help="Between two looks.")
    ] = 2.0,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Show what instances use: CPU, memory, disk, network, requests. Changes nothing."""
    session = session_of(ctx, files=files, project=project)
    environment = None if everything else find_environment(session)
    view = _View(session.client, environment, services, by_service=by_service, sort=sort)
    if output == "json":
        print_json(view.rows())
    elif once or not sys.stdout.isatty():
        print("\n".join(view.lines()))
    else:
        _live(view, interval)


class _View:
    """What is shown, and how; keys change it."""

    def __init__(
        self,
        client: Client,
        environment: str | None,
        services: Sequence[str],
        *,
        by_service: bool,
        sort: str,
    ) -> None:
        self._client = client
        self._environment = environment
        self._services = services
        self._by_service = by_service
        self._sort = sort

    def rows(self) -> Sequence[MeasuredInstance | MeasuredService]:
        return self._service_rows() if self._by_service else self._instance_rows()

    def lines(self) -> list[str]:
        header, environments, cells = self._table()
        if not self._environment:
            header = ("ENVIRONMENT", *header)
            cells = [[name, *line] for name, line in zip(environments, cells, strict=True)]
        return [host_line(self._client.measured_host()), *table_lines(header, cells)]

    def _table(self) -> tuple[Sequence[str], list[str], list[list[str]]]:
        """The header, each row's environment, and its cells."""
        if self._by_service:
            services = self._service_rows()
            names = [row.environment for row in services]
            return SERVICE_HEADER, names, [service_cells(row) for row in services]
        instances = self._instance_rows()
        names = [row.environment for row in instances]
        return INSTANCE_HEADER, names, [instance_cells(row) for row in instances]

    def _instance_rows(self) -> list[MeasuredInstance]:
        rows = self._client.measured_instances(self._environment)
        return ordered([row for row in rows if self._wanted(row.service)], self._sort)

    def _service_rows(self) -> list[MeasuredService]:
        rows = self._client.measured_services(self._environment)
        return ordered([row for row in rows if self._wanted(row.service)], self._sort)

    def _wanted(self, service: str) -> bool:
        return not self._services or service in self._services

    def typed(self, key: str) -> bool:
        """Whether it means the end."""
        if key == "s":
            self._by_service = not self._by_service
        self._sort = SORT_KEYS.get(key, self._sort)
        return key in {"q", "\x03", "\x04"}


def _live(view: _View, interval: float) -> None:
    from vmorch.cli.screen import show

    show(lambda: [*view.lines(), "", _HELP], seconds=interval, typed=view.typed)
