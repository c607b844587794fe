"""vmorch validate."""

from __future__ import annotations

from typing import Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.options import Files, Profiles, ProjectName
from vmorch.cli.output import say
from vmorch.cli.project import require_project

app = new_app()


@app.command(
    "validate",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch validate", "the file of this directory"),
        ("vmorch validate -f compose.yaml -f test.yaml", "several, merged"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    profiles: Profiles,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Say nothing when all is well.")
    ] = False,
    files: Files,
    project: ProjectName = None,
) -> None:
    """Check vmorch files: every mistake with its place, exit code 3. Needs no daemon."""
    from vmorch.cli.spec import load

    session = session_of(ctx, files=files, project=project)
    found = require_project(session)
    spec = load(found, profiles=profiles)
    if not quiet:
        places = ", ".join(map(str, found.files))
        names = ", ".join(spec.services)
        say(f"{places}: '{spec.name}' is valid, with {names or 'no services'}.")
