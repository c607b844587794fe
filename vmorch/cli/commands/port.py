"""vmorch port."""

from __future__ import annotations

from typing import Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.completion import services
from vmorch.cli.options import Files, Output, ProjectName
from vmorch.cli.output import print_json
from vmorch.cli.project import require_environment
from vmorch.errors import NotFound

app = new_app()


@app.command(
    "port",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch port web 8080", "127.0.0.1:31234"),
        ("vmorch port web", "all that web publishes, one a line"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    service: Annotated[str, typer.Argument(autocompletion=services, help="The service.")],
    port: Annotated[
        int | None, typer.Argument(metavar="[PORT]", help="Its port in the guest; all without.")
    ] = None,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Print the address and port of the host behind which a service's port is."""
    session = session_of(ctx, files=files, project=project)
    name = require_environment(session)
    environment = session.client.environment(name)
    if service not in environment.services:
        raise NotFound(
            f"Environment '{name}' has no service '{service}'.",
            hint=f"Its services: {', '.join(environment.services)}.",
        )
    # ADDRESS:PORT->TARGET/PROTOCOL
    pairs = [line.split("->") for line in environment.services[service].published]
    found = [(host, target) for host, target in pairs if _is(port, target)]
    if not found:
        published = ", ".join(target for _, target in pairs) or "none"
        raise NotFound(
            f"'{service}' does not publish {f'port {port}' if port else 'a port'}.",
            hint=f"Published ports: {published}. Add to 'ports:' in the file, and run 'vmorch up'.",
        )
    if output == "json":
        print_json([{"host": host, "target": target} for host, target in found])
        return
    for host, target in found:
        print(host if port else f"{target} -> {host}")


def _is(port: int | None, target: str) -> bool:
    return port is None or target.partition("/")[0] == str(port)
