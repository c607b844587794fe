"""vmorch env."""

from __future__ import annotations

import time

import click

from vmorch.cli.common import Session, output_option
from vmorch.cli.examples import ExampleCommand
from vmorch.cli.output import age, print_json, print_table


@click.group("env")
def command() -> None:
    """List and remove environments."""


@command.command("ls", cls=ExampleCommand, examples=[("vmorch env ls -o json", "for programs")])
@output_option
@click.pass_obj
def list_environments(session: Session, output: str) -> None:
    """List all environments."""
    client = session.client
    environments = client.environments()
    if output == "json":
        print_json(environments)
        return
    instances = client.instances()
    now = time.time()
    print_table(
        ("ENVIRONMENT", "SERVICES", "READY", "ADDRESSES", "AGE", "STATE"),
        [
            [
                view.name,
                str(len(view.services)),
                f"{sum(i.ready for i in instances if i.environment == view.name)}/"
                f"{sum(service.replicas for service in view.services.values())}",
                view.subnet,
                age(view.created_at, now),
                "removing" if view.removing else "up",
            ]
            for view in environments
        ],
    )


@command.command(
    "rm", cls=ExampleCommand, examples=[("vmorch env rm test1 -v", "with its volumes")]
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-v", "--volumes", is_flag=True, help="Remove their volumes too.")
@click.option("-d", "--detach", is_flag=True, help="Do not wait until they are gone.")
@click.pass_obj
def remove_environments(
    session: Session, names: tuple[str, ...], volumes: bool, detach: bool
) -> None:
    """Remove environments, from anywhere."""
    from vmorch.cli.commands.down import remove

    for name in names:
        remove(session, name, volumes=volumes, detach=detach, timeout=None)
