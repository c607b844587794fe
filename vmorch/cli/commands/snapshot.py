"""vmorch snapshot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.completion import services
from vmorch.cli.completion import snapshots as names_of_snapshots
from vmorch.cli.options import Detach, Files, Output, ProjectName, Timeout
from vmorch.cli.output import age, print_json, print_table, say, size
from vmorch.cli.project import require_environment
from vmorch.errors import UsageError

if TYPE_CHECKING:
    from vmorch.client import Client
    from vmorch.model.view.snapshot import SnapshotView

app = new_app("Make, list and remove warm snapshots, from which instances are forked.")


@app.command(
    "ls", cls=ExampleCommand, epilog=examples(("vmorch snapshot ls -o json", "for programs"))
)
def list_snapshots(ctx: typer.Context, *, output: Output = "table") -> None:
    """List warm snapshots of all environments, the oldest first.

    SERVICE-RUNS: its service ran when it was taken. USED BY: the revisions that it is for."""
    client = session_of(ctx).client
    _show(client, client.snapshots(), output)


def _show(client: Client, rows: list[SnapshotView], output: str) -> None:
    if output == "json":
        print_json(rows)
        return
    now = time.time()
    names = {image.digest: image.names for image in client.images()} if rows else {}
    print_table(
        ("SERVICE", "KEY", "IMAGE", "SERVICE-RUNS", "RAM", "DISK", "AGE", "USED BY"),
        [
            [
                row.service,
                row.key[:12],
                next(iter(names.get(row.image, ())), row.image.removeprefix("sha256:")[:12]),
                "yes" if row.with_service else "no",
                size(row.ram_bytes),
                size(row.disk_bytes),
                age(row.created_at, now),
                ",".join(f"{u.environment}/{u.service}@{u.revision}" for u in row.used_by) or "-",
            ]
            for row in rows
        ],
    )


@app.command(
    "create",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch snapshot create orders", "of the service as it was last applied"),
        ("vmorch -p test1 snapshot create orders -d", "without waiting; 'vmorch events' tells"),
    ),
)
def create(
    ctx: typer.Context,
    *,
    service: Annotated[
        str, typer.Argument(metavar="SERVICE", autocompletion=services, help="Of which service.")
    ],
    detach: Detach = False,
    timeout: Timeout = None,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Make a warm snapshot of a service now, and wait for it.

    Also before an instance is ready, after failed tries, and where the daemon's settings say that
    none is made unasked. Refused with 'start: cold', and for an image without a guest agent."""
    session = session_of(ctx, files=files, project=project)
    client, environment = session.client, require_environment(session)
    if detach:
        client.make_snapshot(environment, service)
        return
    from vmorch.cli.waiting import Limits
    from vmorch.cli.warming import make

    made = make(client, environment, service, Limits(timeout_seconds=timeout))
    _show(client, [made], output)


@app.command(
    "rm",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch snapshot rm orders", "all of services of that name"),
        ("vmorch snapshot rm 3f2a9c1b", "by the beginning of its key"),
        ("vmorch snapshot rm --all", "until somebody asks, new instances boot cold"),
    ),
)
def remove(
    ctx: typer.Context,
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY|SERVICE]...",
            autocompletion=names_of_snapshots,
            help="Beginnings of keys, or services.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of this host.")] = False,
    output: Output = "table",
) -> None:
    """Remove warm snapshots. Instances that were forked from them live on.

    One is made again by 'vmorch snapshot create', or after the daemon's next start."""
    if everything == bool(names) or "" in (names or ()):
        raise UsageError(
            "Name keys or services, or say --all.", hint="'vmorch snapshot ls' lists them."
        )
    client = session_of(ctx).client
    removed = [client.remove_snapshots(name) for name in names or (None,)]
    keys = [key for each in removed for key in each.keys]
    freed = sum(each.bytes_freed for each in removed)
    if output == "json":
        print_json({"keys": keys, "bytes_freed": freed})
        return
    if keys:
        print_table(("REMOVED",), [[key[:12]] for key in keys])
    say(f"{size(freed)} freed")
