"""vmorch env."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.completion import environments as names_of_environments
from vmorch.cli.options import Output
from vmorch.cli.output import age, print_json, print_table

app = new_app("List and remove environments.")


@app.command("ls", cls=ExampleCommand, epilog=examples(("vmorch env ls -o json", "for programs")))
def list_environments(ctx: typer.Context, *, output: Output = "table") -> None:
    """List all environments."""
    client = session_of(ctx).client
    environments = client.environments()
    if output == "json":
        print_json(environments)
        return
    instances = client.instances()
    now = time.time()
    print_table(
        ("ENVIRONMENT", "SERVICES", "READY", "ADDRESSES", "AGE", "STATE"),
        [
            [
                view.name,
                str(len(view.services)),
                f"{sum(i.ready for i in instances if i.environment == view.name)}/"
                f"{sum(service.replicas for service in view.services.values())}",
                view.subnet,
                age(view.created_at, now),
                "removing" if view.removing else "up",
            ]
            for view in environments
        ],
    )


@app.command(
    "rm", cls=ExampleCommand, epilog=examples(("vmorch env rm test1 -v", "with its volumes"))
)
def remove_environments(
    ctx: typer.Context,
    *,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", autocompletion=names_of_environments, help="Environments."
        ),
    ],
    volumes: Annotated[
        bool, typer.Option("-v", "--volumes", help="Remove their volumes too.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Do not wait until they are gone.")
    ] = False,
) -> None:
    """Remove environments, from anywhere."""
    from vmorch.cli.commands.down import remove

    for name in names:
        remove(session_of(ctx), name, volumes=volumes, detach=detach, timeout=None)
