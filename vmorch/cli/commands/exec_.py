"""vmorch exec."""

from __future__ import annotations

import sys

import click

from vmorch.cli.common import Session, pairs, project_options
from vmorch.cli.examples import ExampleCommand
from vmorch.cli.project import require_environment


@click.command(
    "exec",
    cls=ExampleCommand,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    examples=[
        ("vmorch exec orders-1 ls -l", "as the service's user, in its directory"),
        ("vmorch exec -u root orders bash", "in the first ready instance of orders"),
        ("vmorch exec -T db pg_dump shop > shop.sql", "without a terminal, for pipes"),
    ],
)
@click.option("-T", "--no-tty", is_flag=True, help="No terminal in the guest.")
@click.option("-u", "--user", help="Another user than the service's own.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set a variable.")
@click.option("-w", "--workdir", metavar="DIR", help="Another directory than the service's own.")
@project_options()
@click.argument("instance", metavar="SERVICE|INSTANCE")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@click.pass_obj
def command(
    session: Session,
    no_tty: bool,
    user: str | None,
    env: tuple[str, ...],
    workdir: str | None,
    instance: str,
    argv: tuple[str, ...],
) -> int:
    """Run a command in an instance. The exit code is the command's."""
    return enter(
        session,
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
    argv: tuple[str, ...] | None,
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
