"""vmorch ssh."""

from __future__ import annotations

import os
import sys

import click

from vmorch.cli.commands.exec_ import enter
from vmorch.cli.common import Session, project_options
from vmorch.cli.examples import ExampleCommand


@click.command(
    "ssh",
    cls=ExampleCommand,
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    examples=[
        ("vmorch ssh orders-1", "a login shell as root"),
        ("vmorch ssh -u app orders-1 uptime", "one command as another user, at home"),
    ],
)
@click.option("-u", "--user", default="root", show_default=True, help="Whose shell.")
@project_options()
@click.argument("instance", metavar="SERVICE|INSTANCE")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND]...")
@click.pass_obj
def command(session: Session, user: str, instance: str, argv: tuple[str, ...]) -> int:
    """Open a shell in an instance, with the installation's key: nothing to set up or accept."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    variables = {"TERM": os.environ["TERM"]} if terminal and "TERM" in os.environ else {}
    # A command line goes to a shell, as ssh does it.
    line = ("/bin/sh", "-lc", " ".join(argv)) if argv else None
    return enter(
        session,
        instance,
        line,
        tty=terminal and not argv,
        user=user,
        variables=variables,
        working_dir=None,
    )
