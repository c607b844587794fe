"""vmorch validate."""

from __future__ import annotations

import click

from vmorch.cli.common import Session, project_options
from vmorch.cli.examples import ExampleCommand
from vmorch.cli.output import say
from vmorch.cli.project import require_project


@click.command(
    "validate",
    cls=ExampleCommand,
    examples=[
        ("vmorch validate", "the file of this directory"),
        ("vmorch validate -f compose.yaml -f test.yaml", "several, merged"),
    ],
)
@click.option("--profile", "profiles", multiple=True, help="Enable services of a profile.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing when all is well.")
@project_options()
@click.pass_obj
def command(session: Session, profiles: tuple[str, ...], quiet: bool) -> None:
    """Check vmorch files: every mistake with its place, exit code 3. Needs no daemon."""
    from vmorch.cli.spec import load

    project = require_project(session)
    spec = load(project, profiles=profiles)
    if not quiet:
        files = ", ".join(map(str, project.files))
        names = ", ".join(spec.services)
        say(f"{files}: '{spec.name}' is valid, with {names or 'no services'}.")
