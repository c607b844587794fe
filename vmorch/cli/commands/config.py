"""vmorch config."""

from __future__ import annotations

import sys

import click

from vmorch.cli.common import Session, project_options
from vmorch.cli.examples import ExampleCommand
from vmorch.cli.output import print_json
from vmorch.cli.project import require_project


@click.command(
    "config",
    cls=ExampleCommand,
    examples=[
        ("vmorch config", "the file as vmorch understands it"),
        ("vmorch config --services", "the names of its services"),
        ("vmorch config --schema > vmorch.schema.json", "for an editor"),
    ],
)
@click.option("--schema", is_flag=True, help="Print a JSON Schema of vmorch files instead.")
@click.option("--services", is_flag=True, help="Print the services' names instead.")
@click.option("--profile", "profiles", multiple=True, help="Enable services of a profile.")
@click.option(
    "-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", help="The form."
)
@project_options()
@click.pass_obj
def command(
    session: Session, schema: bool, services: bool, profiles: tuple[str, ...], output: str
) -> None:
    """Print the resolved vmorch file: merged, interpolated, with defaults. Needs no daemon."""
    from vmorch.model.compose import json_schema, render

    if schema:
        print_json(json_schema())
        return
    from vmorch.cli.spec import load

    spec = load(require_project(session), profiles=profiles)
    if services:
        print("\n".join(spec.services))
    elif output == "json":
        from vmorch.model.codec import to_json

        print_json(to_json(spec))
    else:
        sys.stdout.write(render(spec))
