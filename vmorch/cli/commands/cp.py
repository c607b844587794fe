"""vmorch cp."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.completion import guests
from vmorch.cli.options import Files, ProjectName
from vmorch.cli.project import require_environment
from vmorch.errors import UsageError

app = new_app()


@app.command(
    "cp",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch cp orders-1:/var/log/app.log .", "a file from an instance into this directory"),
        ("vmorch cp ./site web-1:/srv", "a directory into /srv of an instance"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    files: Files,
    project: ProjectName = None,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", autocompletion=guests, help="PATH or INSTANCE:PATH.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", autocompletion=guests, help="The other one of these.")
    ],
) -> None:
    """Copy a file or directory between this host and an instance, as root there.

    Onto a directory it goes into that directory, else it gets the new name. The instance's image
    must have SSH.
    """
    from vmorch.cli.copying import Copying, place

    here, there = place(source), place(target)
    if (here.instance is None) == (there.instance is None):
        raise UsageError(
            "One of SOURCE and TARGET must be in an instance, the other here.",
            hint="Such as: vmorch cp ./file orders-1:/etc/file",
        )
    session = session_of(ctx, files=files, project=project)
    copying = Copying(session.client, require_environment(session))
    if there.instance is not None:
        copying.to_guest(Path(here.path), there.instance, there.path)
    elif here.instance is not None:
        copying.from_guest(here.instance, here.path, Path(there.path))
