"""vmorch events."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.completion import services
from vmorch.cli.options import Guests, LongFiles, Output, ProjectName, Since, several
from vmorch.cli.output import clean, print_json_line
from vmorch.cli.project import find_environment
from vmorch.cli.times import moment, shown

app = new_app()


@app.command(
    "events",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch events --since 1h", "the last hour of this directory's environment"),
        ("vmorch events -f orders db-1", "what comes, of a service and of an instance"),
        ("vmorch events -f -a -o json", "all that happens on the host, one JSON object a line"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    names: Guests,
    service: Annotated[
        list[str],
        several(metavar="SERVICE", autocompletion=services, help="The same as naming it."),
    ],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as they happen.")] = False,
    everything: Annotated[bool, typer.Option("-a", "--all", help="Of all environments.")] = False,
    since: Since = None,
    files: LongFiles,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Show what happened, oldest first, also to environments that are gone."""
    session = session_of(ctx, files=files, project=project)
    events = session.client.events(
        environment=None if everything else find_environment(session),
        subjects=[*names, *service],
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
