"""vmorch scale."""

from __future__ import annotations

import click

from vmorch.cli.common import Session, counts, project_options
from vmorch.cli.examples import ExampleCommand
from vmorch.cli.project import require_environment


@click.command(
    "scale",
    cls=ExampleCommand,
    examples=[
        ("vmorch scale orders=3", "three instances of orders; wait until they are ready"),
        ("vmorch scale orders=0 front=2 -d", "several at once, without waiting"),
    ],
)
@click.argument("services", nargs=-1, required=True, metavar="SERVICE=N...")
@click.option("-d", "--detach", is_flag=True, help="Do not wait until they are ready.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait.")
@project_options()
@click.pass_obj
def command(
    session: Session, services: tuple[str, ...], detach: bool, timeout: float | None
) -> None:
    """Change how many instances services have. The next 'up' sets what the file says."""
    replicas = counts(services)
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
