"""vmorch ps."""

from __future__ import annotations

import time

import click

from vmorch.cli.common import Session, output_option, project_options
from vmorch.cli.examples import ExampleCommand
from vmorch.cli.output import INSTANCE_HEADER, instance_row, print_json, print_table
from vmorch.cli.project import find_environment


@click.command(
    "ps",
    cls=ExampleCommand,
    examples=[
        ("vmorch ps", "this directory's environment, or all where there is no file"),
        ("vmorch ps -p shop orders", "the instances of one service"),
        ("vmorch ps -a -o json", "every instance on the host, for programs"),
    ],
)
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("-a", "--all", "everything", is_flag=True, help="Of all environments.")
@project_options()
@output_option
@click.pass_obj
def command(session: Session, services: tuple[str, ...], everything: bool, output: str) -> None:
    """List instances. Changes nothing."""
    environment = None if everything else find_environment(session)
    client = session.client
    if services and environment:
        rows = [row for name in services for row in client.instances(environment, name)]
    else:
        rows = client.instances(environment)
        rows = [row for row in rows if not services or row.service in services]
    if output == "json":
        print_json(rows)
        return
    now = time.time()
    if environment:
        print_table(INSTANCE_HEADER, [instance_row(row, now) for row in rows])
    else:
        header = ("ENVIRONMENT", *INSTANCE_HEADER)
        print_table(header, [[row.environment, *instance_row(row, now)] for row in rows])
