"""What a shell completes. Names come from the daemon, which is given a moment to answer."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
import typer

if TYPE_CHECKING:
    from vmorch.cli.common import Session
    from vmorch.client import Client

# By this variable the shell's script, which Click generates, asks the program.
VARIABLE = "_VMORCH_COMPLETE"

# Somebody waits at a prompt.
_TIMEOUT_SECONDS = 1.0


def answer(command: click.Command, session: Session, instruction: str) -> int:
    """Answer the shell; the exit code. Click's own way: Typer's loads Rich for a description."""
    from click.shell_completion import shell_complete

    return shell_complete(command, {"obj": session}, "vmorch", VARIABLE, instruction)


def environments(ctx: typer.Context) -> list[str]:
    return _asked(ctx, lambda client, _: [view.name for view in client.environments()])


def services(ctx: typer.Context) -> list[str]:
    return _asked(ctx, _services)


def scales(ctx: typer.Context) -> list[str]:
    """Services, ready for the number."""
    return [f"{name}=" for name in services(ctx)]


def guests(ctx: typer.Context) -> list[str]:
    """Services and instances."""
    return services(ctx) + _asked(ctx, _instances)


def images(ctx: typer.Context) -> list[str]:
    return _asked(ctx, lambda client, _: [n for image in client.images() for n in image.names])


def snapshots(ctx: typer.Context) -> list[str]:
    """Services, and the beginnings of keys."""
    return _asked(ctx, _snapshots)


def _snapshots(client: Client, session: Session) -> Iterable[str]:
    rows = client.snapshots()
    return [*dict.fromkeys(row.service for row in rows), *(row.key[:12] for row in rows)]


def _services(client: Client, session: Session) -> Iterable[str]:
    from vmorch.cli.project import require_environment

    return client.environment(require_environment(session)).services


def _instances(client: Client, session: Session) -> Iterable[str]:
    from vmorch.cli.project import require_environment

    return [row.instance for row in client.instances(require_environment(session))]


def _asked(ctx: typer.Context, ask: Callable[[Client, Session], Iterable[str]]) -> list[str]:
    """What `ask` finds, or nothing: errors and warnings have no place in a prompt."""
    from vmorch.cli.common import session_of
    from vmorch.client import Client
    from vmorch.errors import VmorchError

    # While completing nothing is called, so that the root has not filled the session.
    root, own = ctx.find_root().params, ctx.params
    session = session_of(
        ctx,
        files=own.get("files") or root.get("files"),
        project=own.get("project") or root.get("project"),
    )
    session.socket_option = root.get("socket")
    with contextlib.suppress(VmorchError, OSError), contextlib.redirect_stderr(io.StringIO()):
        return list(ask(Client(session.socket, timeout_seconds=_TIMEOUT_SECONDS), session))
    return []
