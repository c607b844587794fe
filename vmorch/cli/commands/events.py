"""vmorch events."""

from __future__ import annotations

import time

import click

from vmorch.cli.common import Session, output_option, project_options
from vmorch.cli.examples import ExampleCommand
from vmorch.cli.output import clean, print_json_line
from vmorch.cli.project import find_environment
from vmorch.cli.times import moment, shown


@click.command(
    "events",
    cls=ExampleCommand,
    examples=[
        ("vmorch events --since 1h", "the last hour of this directory's environment"),
        ("vmorch events -f -a -o json", "all that happens on the host, one JSON object a line"),
    ],
)
@click.argument("service", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as they happen.")
@click.option("-a", "--all", "everything", is_flag=True, help="Of all environments.")
@click.option("--since", metavar="TIME", help="A time, or how long ago: 10m, 2026-11-24T10:00:00.")
@project_options(short_file=False)
@output_option
@click.pass_obj
def command(
    session: Session,
    service: str | None,
    follow: bool,
    everything: bool,
    since: str | None,
    output: str,
) -> None:
    """Show what happened, oldest first, also to environments that are gone."""
    events = session.client.events(
        environment=None if everything else find_environment(session),
        service=service,
        since=moment(since, time.time()) if since else None,
        follow=follow,
    )
    for event in events:
        if output == "json":
            print_json_line(event)
            continue
        subject = f"{event.environment}/{event.instance or event.service}".rstrip("/")
        print(
            f"{shown(event.time)}  {event.kind:<20}  {subject}  {clean(event.message)}",
            flush=follow,
        )
