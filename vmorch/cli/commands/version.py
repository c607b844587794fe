"""vmorch version."""

from __future__ import annotations

import typer

from vmorch import __version__
from vmorch.cli.apps import new_app
from vmorch.cli.common import session_of
from vmorch.cli.options import Output
from vmorch.cli.output import print_json
from vmorch.errors import DaemonUnreachable

app = new_app()


@app.command("version")
def command(ctx: typer.Context, *, output: Output = "table") -> None:
    """Print the versions of client and daemon. Works without a daemon."""
    try:
        daemon = session_of(ctx).client.version()
    except DaemonUnreachable:
        daemon = None
    if output == "json":
        print_json({"client": __version__, "daemon": daemon})
        return
    print(f"client  {__version__}")
    print(f"daemon  {daemon.version} (API {daemon.api})" if daemon else "daemon  not reachable")
