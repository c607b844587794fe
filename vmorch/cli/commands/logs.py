"""vmorch logs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from vmorch.cli.common import Session, output_option, project_options
from vmorch.cli.examples import ExampleCommand
from vmorch.cli.output import clean, print_json_line
from vmorch.cli.project import require_environment
from vmorch.cli.times import moment, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmorch.client import Client

TAIL_LIMIT = 10_000


@click.command(
    "logs",
    cls=ExampleCommand,
    examples=[
        ("vmorch logs -f", "follow all services"),
        ("vmorch logs orders-1 --tail 50 -t", "the last 50 lines of one instance, with times"),
        ("vmorch logs --source console orders-1", "what its kernel and boot said"),
        ("vmorch logs --since 10m -o json", "one JSON object a line"),
    ],
)
@click.argument("names", nargs=-1, metavar="[SERVICE|INSTANCE]...")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come.")
@click.option("-n", "--tail", metavar="N", default="all", help="The last N lines of each instance.")
@click.option("--since", metavar="TIME", help="A time, or how long ago: 10m, 2026-11-24T10:00:00.")
@click.option("-t", "--timestamps", is_flag=True, help="Show times.")
@click.option("--source", type=click.Choice(["service", "console"]), default="service")
@click.option("--no-log-prefix", is_flag=True, help="Leave out the instances' names.")
@project_options(short_file=False)
@output_option
@click.pass_obj
def command(
    session: Session,
    names: tuple[str, ...],
    follow: bool,
    tail: str,
    since: str | None,
    timestamps: bool,
    source: str,
    no_log_prefix: bool,
    output: str,
) -> None:
    """Show what services (or consoles) wrote, also of instances that are gone."""
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


def _tail(text: str) -> int | None:
    if text == "all":
        return None
    if text.isascii() and text.isdigit() and int(text) <= TAIL_LIMIT:
        return int(text)
    raise click.BadParameter(f"--tail takes 'all' or a number up to {TAIL_LIMIT}, not '{text}'.")
