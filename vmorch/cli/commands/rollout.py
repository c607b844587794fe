"""vmorch rollout."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.completion import services
from vmorch.cli.options import DryRun, Files, Output, ProjectName, Timeout
from vmorch.cli.output import age, clean, print_json, print_table, say
from vmorch.cli.project import require_environment

if TYPE_CHECKING:
    from vmorch.client import Client
    from vmorch.model.view.rollout import RolloutView

app = new_app("Follow and steer the way of a service to a new revision.")

Service = Annotated[
    str, typer.Argument(metavar="SERVICE", autocompletion=services, help="Of which service.")
]


@app.command(
    "status",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch rollout status orders", "how far it has come, what it waits for"),
        ("vmorch rollout status orders --wait", "until it has ended; 1 unless all went well"),
    ),
)
def status(
    ctx: typer.Context,
    *,
    service: Service,
    wait: Annotated[
        bool,
        typer.Option("-w", "--wait", help="Until it has ended, or its canary waits for a user."),
    ] = False,
    timeout: Timeout = None,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Show how the last rollout of a service stands, or how it ended."""
    session = session_of(ctx, files=files, project=project)
    client, environment = session.client, require_environment(session)
    rollout = client.rollout(environment, service)
    if wait:
        from vmorch.cli.rolling import follow

        rollout = follow(client, rollout, timeout_seconds=timeout)
    _show(rollout, output)


@app.command(
    "history",
    cls=ExampleCommand,
    epilog=examples(("vmorch rollout history orders", "each rollout, how it ended and why")),
)
def history(
    ctx: typer.Context,
    *,
    service: Service,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """List the rollouts of a service, the oldest first."""
    session = session_of(ctx, files=files, project=project)
    client = session.client
    rows = client.rollouts(require_environment(session), service)
    if output == "json":
        print_json(rows)
        return
    now = time.time()
    names = {image.digest: image.names for image in client.images()} if rows else {}
    print_table(
        ("ROLLOUT", "REVISION", "IMAGE", "STATE", "BEGUN", "REASON"),
        [
            [
                str(row.number),
                str(row.revision),
                next(iter(names.get(row.image, ())), row.image.removeprefix("sha256:")[:12]),
                f"{row.phase} rollback" if row.rollback else row.phase,
                age(row.started_at, now),
                clean(row.reason),
            ]
            for row in rows
        ],
    )


@app.command(
    "diff",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch rollout diff orders", "the current revision against the one before it"),
        ("vmorch rollout diff orders 3 5", "any two"),
    ),
)
def diff(
    ctx: typer.Context,
    *,
    service: Service,
    old: Annotated[int | None, typer.Argument(metavar="[OLD]", help="A revision.")] = None,
    new: Annotated[int | None, typer.Argument(metavar="[NEW]", help="Another one.")] = None,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Show in what two revisions of a service differ."""
    session = session_of(ctx, files=files, project=project)
    rows = session.client.differences(require_environment(session), service, old, new)
    if output == "json":
        print_json(rows)
        return
    for row in rows:
        print(clean(f"{row.key}:"))
        for sign, value in (("-", row.old), ("+", row.new)):
            if value is not None:
                print(clean(f"  {sign} {value}"))
    if not rows:
        say("They are the same.")


@app.command(
    "pause",
    cls=ExampleCommand,
    epilog=examples(("vmorch rollout pause orders", "replace no further instance")),
)
def pause(
    ctx: typer.Context,
    *,
    service: Service,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Stop replacing instances. What has been replaced stays so."""
    session = session_of(ctx, files=files, project=project)
    _steer(session.client, require_environment(session), service, "pause", output)


@app.command(
    "resume",
    cls=ExampleCommand,
    epilog=examples(("vmorch rollout resume orders", "go on; what has failed so far is borne")),
)
def resume(
    ctx: typer.Context,
    *,
    service: Service,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Go on with a rollout that is paused."""
    session = session_of(ctx, files=files, project=project)
    _steer(session.client, require_environment(session), service, "resume", output)


@app.command(
    "promote",
    cls=ExampleCommand,
    epilog=examples(("vmorch rollout promote orders", "after 'vmorch up --canary 10%'")),
)
def promote(
    ctx: typer.Context,
    *,
    service: Service,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Roll out the revision that has a share of the requests."""
    session = session_of(ctx, files=files, project=project)
    _steer(session.client, require_environment(session), service, "promote", output)


@app.command(
    "undo",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch rollout undo orders", "back to the last revision that was rolled out whole"),
        ("vmorch rollout undo orders --to 3", "back to revision 3"),
        ("vmorch rollout undo orders --dry-run", "what would be done, and why"),
    ),
)
def undo(
    ctx: typer.Context,
    *,
    service: Service,
    to: Annotated[int | None, typer.Option(metavar="REVISION", min=1, help="Which one.")] = None,
    dry_run: DryRun = False,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Lead a service back to an earlier revision."""
    session = session_of(ctx, files=files, project=project)
    client, environment = session.client, require_environment(session)
    if dry_run:
        from vmorch.cli.dryrun import show_steps

        show_steps(client.preview_undo(environment, service, to), output)
        return
    _show(client.undo(environment, service, to), output)


def _steer(client: Client, environment: str, service: str, order: str, output: str) -> None:
    _show(client.steer_rollout(environment, service, order), output)


def _show(rollout: RolloutView, output: str) -> None:
    if output == "json":
        print_json(rollout)
        return
    what = "rollback" if rollout.rollback else "rollout"
    for line in rollout.lines or [f"{what} to revision {rollout.revision}: {rollout.phase}"]:
        print(clean(line))
    if rollout.instances:
        print_table(
            ("INSTANCE", "REVISION", "STATE", "PASSED"),
            [
                [one.instance, str(one.revision), one.state, "yes" if one.passed else "-"]
                for one in rollout.instances
            ],
        )
