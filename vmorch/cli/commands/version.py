"""vmorch version."""

from __future__ import annotations

import click

from vmorch import __version__
from vmorch.cli.common import Session, output_option
from vmorch.cli.output import print_json
from vmorch.errors import DaemonUnreachable


@click.command("version")
@output_option
@click.pass_obj
def command(session: Session, output: str) -> None:
    """Print the versions of client and daemon. Works without a daemon."""
    try:
        daemon = session.client.version()
    except DaemonUnreachable:
        daemon = None
    if output == "json":
        print_json({"client": __version__, "daemon": daemon})
        return
    print(f"client  {__version__}")
    print(f"daemon  {daemon.version} (API {daemon.api})" if daemon else "daemon  not reachable")
