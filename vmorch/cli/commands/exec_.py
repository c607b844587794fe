"""vmorch exec."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import Session, pairs, session_of
from vmorch.cli.options import Files, Guest, ProjectName, several
from vmorch.cli.project import require_environment

app = new_app()


@app.command(
    "exec",
    cls=ExampleCommand,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    epilog=examples(
        ("vmorch exec orders-1 ls -l", "as the service's user, in its directory"),
        ("vmorch exec -u root orders bash", "in the first ready instance of orders"),
        ("vmorch exec -T db pg_dump shop > shop.sql", "without a terminal, for pipes"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    no_tty: Annotated[
        bool, typer.Option("-T", "--no-tty", help="No terminal in the guest.")
    ] = False,
    user: Annotated[
        str | None, typer.Option("-u", "--user", help="Another user than the service's own.")
    ] = None,
    env: Annotated[
        list[str],
        several("-e", "--env", metavar="NAME=VALUE", help="Set a variable."),
    ],
    workdir: Annotated[
        str | None,
        typer.Option(
            "-w", "--workdir", metavar="DIR", help="Another directory than the service's own."
        ),
    ] = None,
    files: Files,
    project: ProjectName = None,
    instance: Guest,
    argv: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="What to run.")],
) -> int:
    """Run a command in an instance. The exit code is the command's."""
    return enter(
        session_of(ctx, files=files, project=project),
        instance,
        argv,
        tty=not no_tty and _on_terminal(),
        user=user,
        variables=pairs(env, "NAME=VALUE"),
        working_dir=workdir,
    )


def enter(
    session: Session,
    instance: str,
    argv: Sequence[str] | None,
    *,
    tty: bool,
    user: str | None,
    variables: dict[str, str],
    working_dir: str | None,
) -> int:
    """Open a session and stay in it until it ends; its exit code."""
    from vmorch.cli.terminal import run_session, terminal_size

    columns, rows = terminal_size()
    path = session.client.open_exec(
        require_environment(session),
        instance,
        argv=argv,
        tty=tty,
        user=user,
        variables=variables,
        working_dir=working_dir,
        columns=columns,
        rows=rows,
    )
    return run_session(path, tty_wanted=tty)


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
