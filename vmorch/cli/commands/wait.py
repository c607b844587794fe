"""vmorch wait."""

from __future__ import annotations

import click

from vmorch.cli.common import Session, project_options
from vmorch.cli.examples import ExampleCommand
from vmorch.cli.project import require_environment
from vmorch.errors import NotFound


@click.command(
    "wait",
    cls=ExampleCommand,
    examples=[
        ("vmorch wait", "until every service is ready"),
        ("vmorch wait db --timeout 60", "until db is; exit code 6 after a minute"),
        ("vmorch wait --gone -p shop", "until nothing of 'shop' is left"),
    ],
)
@click.argument("services", nargs=-1, metavar="[SERVICE]...")
@click.option("--gone", is_flag=True, help="Wait until the environment is gone.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait.")
@project_options()
@click.pass_obj
def command(session: Session, services: tuple[str, ...], gone: bool, timeout: float | None) -> None:
    """Wait until an environment (or some of its services) is ready, or gone."""
    from vmorch.cli.progress import reporter
    from vmorch.cli.waiting import Limits, wait_gone, wait_ready

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
