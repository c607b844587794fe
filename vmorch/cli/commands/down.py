"""vmorch down."""

from __future__ import annotations

import click

from vmorch.cli.common import Session, project_options
from vmorch.cli.examples import ExampleCommand
from vmorch.cli.output import say
from vmorch.cli.project import require_environment


@click.command(
    "down",
    cls=ExampleCommand,
    examples=[
        ("vmorch down", "remove this directory's environment, keep its volumes"),
        ("vmorch down -v -p shop", "remove 'shop' with its volumes"),
    ],
)
@click.option("-v", "--volumes", is_flag=True, help="Remove its volumes too.")
@click.option("-d", "--detach", is_flag=True, help="Do not wait until it is gone.")
@click.option(
    "-t", "--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait."
)
@project_options()
@click.pass_obj
def command(session: Session, volumes: bool, detach: bool, timeout: float | None) -> None:
    """Stop and remove an environment, and wait until it is gone. Logs and images are kept."""
    name = require_environment(session)
    remove(session, name, volumes=volumes, detach=detach, timeout=timeout)


def remove(
    session: Session, name: str, *, volumes: bool, detach: bool, timeout: float | None
) -> None:
    """Raises NotFound: there is none. TimedOut: it is not gone yet."""
    from vmorch.cli.progress import reporter
    from vmorch.cli.waiting import Limits, wait_gone

    client = session.client
    client.remove(name, volumes=volumes)
    if detach:
        say(f"'{name}' is being removed.")
        return
    with reporter() as report:
        wait_gone(client, name, report, limits=Limits(timeout_seconds=timeout))
    say(f"'{name}' is gone.")
