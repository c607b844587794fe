"""`start` and `pause` are one command with two goals; `stop` has two of its own."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.options import Detach, Files, Guests, ProjectName, Timeout
from vmorch.cli.project import require_environment


def goal_app(word: str, goal: str, says: str, *lines: tuple[str, str]) -> typer.Typer:
    """The command `word`, which gives instances `goal` (see `vmorch.cli.goals`) and waits.
    `says` is its help, `lines` are its examples."""
    app = new_app()

    @app.command(word, cls=ExampleCommand, help=says, epilog=examples(*lines))
    def command(
        ctx: typer.Context,
        *,
        names: Guests,
        detach: Detach = False,
        timeout: Timeout = None,
        files: Files,
        project: ProjectName = None,
    ) -> None:
        pursue(ctx, goal, names, detach=detach, timeout=timeout, files=files, project=project)

    return app


def pursue(
    ctx: typer.Context,
    goal: str,
    names: Sequence[str],
    *,
    detach: bool,
    timeout: float | None,
    files: list[str],
    project: str | None,
) -> None:
    """Give instances `goal`, and wait unless `detach`."""
    from vmorch.cli.goals import reach

    session = session_of(ctx, files=files, project=project)
    environment = require_environment(session)
    reach(session.client, environment, goal, names, timeout=timeout, detach=detach)
