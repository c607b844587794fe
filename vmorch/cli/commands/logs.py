"""vmorch logs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.completion import guests
from vmorch.cli.options import LongFiles, Output, ProjectName, Since, any_number
from vmorch.cli.output import clean, print_json_line
from vmorch.cli.project import require_environment
from vmorch.cli.times import moment, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmorch.client import Client

TAIL_LIMIT = 10_000


app = new_app()


@app.command(
    "logs",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch logs -f", "follow all services"),
        ("vmorch logs orders-1 --tail 50 -t", "the last 50 lines of one instance, with times"),
        ("vmorch logs --source console orders-1", "what its kernel and boot said"),
        ("vmorch logs --access web --tail 20", "its last requests (route: access_log: true)"),
        ("vmorch logs --since 10m -o json", "one JSON object a line"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    names: Annotated[
        list[str],
        any_number(metavar="[SERVICE|INSTANCE]...", autocompletion=guests, help="Of these only."),
    ],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines come.")] = False,
    tail: Annotated[
        str,
        typer.Option("-n", "--tail", metavar="N", help="The last N lines of each instance."),
    ] = "all",
    since: Since = None,
    timestamps: Annotated[bool, typer.Option("-t", "--timestamps", help="Show times.")] = False,
    source: Annotated[Literal["service", "console"], typer.Option(help="Whose lines.")] = "service",
    access: Annotated[
        bool, typer.Option("--access", help="Requests that the proxy answered, instead.")
    ] = False,
    no_log_prefix: Annotated[
        bool, typer.Option("--no-log-prefix", help="Leave out the instances' names.")
    ] = False,
    files: LongFiles,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Show what services (or consoles) wrote, also of instances that are gone."""
    session = session_of(ctx, files=files, project=project)
    if access:
        if follow:
            raise typer.BadParameter("--access shows what has been; it does not follow.")
        show_accesses(
            session.client,
            require_environment(session),
            names,
            tail=_tail(tail),
            since=moment(since, time.time()) if since else None,
            json=output == "json",
        )
        return
    show(
        session.client,
        require_environment(session),
        names,
        source=source,
        follow=follow,
        tail=_tail(tail),
        since=moment(since, time.time()) if since else None,
        timestamps=timestamps,
        prefix=not no_log_prefix,
        json=output == "json",
    )


def show(
    client: Client,
    environment: str,
    names: Sequence[str] = (),
    *,
    source: str = "service",
    follow: bool = False,
    tail: int | None = None,
    since: float | None = None,
    timestamps: bool = False,
    prefix: bool = True,
    json: bool = False,
) -> None:
    """Print log lines, and with `follow` until interrupted."""
    lines = client.logs(environment, names, source=source, follow=follow, tail=tail, since=since)
    width = 0
    for line in lines:
        if json:
            print_json_line(line)
            continue
        width = max(width, len(line.instance))
        start = f"{line.instance.ljust(width)} | " if prefix else ""
        stamp = f"{shown(line.time)} " if timestamps and line.time is not None else ""
        print(f"{start}{stamp}{clean(line.line)}", flush=follow)


def show_accesses(
    client: Client,
    environment: str,
    names: Sequence[str] = (),
    *,
    tail: int | None = None,
    since: float | None = None,
    json: bool = False,
) -> None:
    """Print the last requests that the proxy has answered, a line each."""
    for line in client.accesses(environment, names, tail=tail, since=since):
        if json:
            print_json_line(line)
            continue
        scheme = "https" if line.tls else "http"
        asked = clean(f"{line.method} {scheme}://{line.host}{line.uri}")
        took = f"{line.seconds * 1000:.0f} ms"
        instance = line.instance or line.service
        print(f"{shown(line.time)} {instance} {line.status} {took} {line.client} {asked}")


def _tail(text: str) -> int | None:
    if text == "all":
        return None
    if text.isascii() and text.isdigit() and int(text) <= TAIL_LIMIT:
        return int(text)
    raise typer.BadParameter(f"--tail takes 'all' or a number up to {TAIL_LIMIT}, not '{text}'.")
