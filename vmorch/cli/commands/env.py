"""vmorch env."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.completion import environments as names_of_environments
from vmorch.cli.options import Output
from vmorch.cli.output import age, duration, print_json, print_table, say
from vmorch.errors import UsageError

if TYPE_CHECKING:
    from vmorch.model.view.environment import EnvironmentView

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
        ("ENVIRONMENT", "SERVICES", "READY", "ADDRESSES", "AGE", "STATE", "ENDS"),
        [
            [
                view.name,
                str(len(view.services)),
                f"{sum(i.ready for i in instances if i.environment == view.name)}/"
                f"{sum(service.replicas for service in view.services.values())}",
                view.subnet,
                age(view.created_at, now),
                "removing" if view.removing else "up",
                _end(view, now),
            ]
            for view in environments
        ],
    )


def _end(view: EnvironmentView, now: float) -> str:
    """When it ends by itself."""
    ends = [f"in {duration(view.expires_at - now)}"] if view.expires_at else []
    ends += [f"with process {view.holder}"] if view.holder else []
    return " or ".join(ends) or "-"


@app.command(
    "rm",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch env rm test1 -v", "with its volumes"),
        ("vmorch env rm --orphans", "end guests that the daemon does not know"),
    ),
)
def remove_environments(
    ctx: typer.Context,
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME...]", autocompletion=names_of_environments, help="Environments."
        ),
    ] = None,
    orphans: Annotated[
        bool,
        typer.Option(
            "--orphans", help="End this installation's guests that its daemon does not know."
        ),
    ] = False,
    volumes: Annotated[
        bool, typer.Option("-v", "--volumes", help="Remove their volumes too.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Do not wait until they are gone.")
    ] = False,
) -> None:
    """Remove environments, from anywhere."""
    from vmorch.cli.commands.down import remove

    if not names and not orphans:
        raise UsageError("No environment is named.", hint="'vmorch env ls' lists what there is.")
    if orphans:
        ended = session_of(ctx).client.end_unknown_guests()
        say(f"Ended: {', '.join(ended)}." if ended else "Every guest is known.")
    for name in names or ():
        remove(session_of(ctx), name, volumes=volumes, detach=detach, timeout=None)
