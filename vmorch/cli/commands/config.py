"""vmorch config."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated, Literal

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.options import Files, Profiles, ProjectName
from vmorch.cli.output import print_json
from vmorch.cli.project import require_project

app = new_app()


@app.command(
    "config",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch config", "the file as vmorch understands it"),
        ("vmorch config --services", "the names of its services"),
        ("vmorch config --schema > vmorch.schema.json", "for an editor"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print a JSON Schema of vmorch files instead.")
    ] = False,
    services: Annotated[
        bool, typer.Option("--services", help="Print the services' names instead.")
    ] = False,
    profiles: Profiles,
    output: Annotated[
        Literal["yaml", "json"], typer.Option("-o", "--output", help="The form.")
    ] = "yaml",
    files: Files,
    project: ProjectName = None,
) -> None:
    """Print the resolved vmorch file: merged, interpolated, with defaults. Needs no daemon."""
    from vmorch.model.compose import json_schema, render

    if schema:
        print_json(json_schema())
        return
    from vmorch.cli.spec import load

    session = session_of(ctx, files=files, project=project)
    spec = load(require_project(session), profiles=profiles)
    if services:
        print("\n".join(spec.services))
    elif output == "json":
        from vmorch.model.codec import to_json

        print_json(to_json(replace(spec, contents={})))
    else:
        sys.stdout.write(render(spec))
