"""vmorch down."""

from __future__ import annotations

from typing import Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import Session, session_of
from vmorch.cli.options import POSITIVE, DryRun, Files, Output, ProjectName
from vmorch.cli.output import say
from vmorch.cli.project import require_environment
from vmorch.errors import NotFound

app = new_app()


@app.command(
    "down",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch down", "remove this directory's environment, keep its volumes"),
        ("vmorch down -v -p shop", "remove 'shop' with its volumes"),
        ("vmorch down -v --dry-run", "what that would remove"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    volumes: Annotated[
        bool, typer.Option("-v", "--volumes", help="Remove its volumes too.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Do not wait until it is gone.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "-t", "--timeout", click_type=POSITIVE, metavar="SECONDS", help="How long to wait."
        ),
    ] = None,
    dry_run: DryRun = False,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Stop and remove an environment, and wait until it is gone. Logs and images are kept."""
    session = session_of(ctx, files=files, project=project)
    name = require_environment(session)
    if dry_run:
        from vmorch.cli.dryrun import show_steps

        show_steps(session.client.preview_removal(name, volumes=volumes), output)
        return
    remove(session, name, volumes=volumes, detach=detach, timeout=timeout)


def remove(
    session: Session, name: str, *, volumes: bool, detach: bool, timeout: float | None
) -> None:
    """Raises NotFound: there is none. TimedOut: it is not gone yet."""
    from vmorch.cli.progress import reporter
    from vmorch.cli.waiting import Limits, wait_gone

    client = session.client
    try:
        client.remove(name, volumes=volumes)
    except NotFound:
        if not volumes:
            raise
        client.remove_volumes(name)
        say(f"The volumes that '{name}' left are gone.")
        return
    if detach:
        say(f"'{name}' is being removed.")
        return
    with reporter() as report:
        wait_gone(client, name, report, limits=Limits(timeout_seconds=timeout))
    say(f"'{name}' is gone.")
