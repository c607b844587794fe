"""The entry point: the list of commands, and how errors leave the program.

Built on Click itself: Typer loads Pydantic to convert any option's value, which alone costs more
than all that `vmorch ps` may take. A command's module is imported when it is called; `--help`
reads only the list here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click

from vmorch.cli.common import Session
from vmorch.cli.lazy import LazyGroup

# heading -> name -> (module under vmorch.cli.commands, what `--help` says)
COMMANDS = {
    "Environments": {
        "up": ("up", "Build, start and wait until everything is ready."),
        "down": ("down", "Stop and remove an environment."),
        "ps": ("ps", "List instances."),
        "scale": ("scale", "Change how many instances a service has."),
        "wait": ("wait", "Wait until an environment is ready, or gone."),
        "env": ("env", "List and remove environments."),
    },
    "Instances": {
        "logs": ("logs", "Show what services and consoles wrote."),
        "exec": ("exec_", "Run a command in an instance."),
        "ssh": ("ssh", "Open a shell in an instance."),
        "events": ("events", "Show what happened."),
    },
    "Files and images": {
        "validate": ("validate", "Check vmorch files; needs no daemon."),
        "config": ("config", "Print the resolved vmorch file."),
        "image": ("image", "Build and list images."),
    },
    "Host": {
        "doctor": ("doctor", "Check what this host needs."),
        "daemon": ("daemon", "Run, start and stop the daemon."),
        "version": ("version", "Print the versions of client and daemon."),
    },
}


@click.group(
    cls=LazyGroup,
    commands_by_heading=COMMANDS,
    package="vmorch.cli.commands",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="'vmorch COMMAND --help' shows a command's options and examples.",
)
@click.option(
    "--socket", type=click.Path(path_type=Path), help="The daemon's socket.", metavar="PATH"
)
@click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="A vmorch file.")
@click.option("-p", "--project-name", "project", metavar="NAME", help="The environment's name.")
@click.option("--debug", is_flag=True, help="Show a traceback on errors.")
@click.pass_obj
def root(
    session: Session, socket: Path | None, files: tuple[str, ...], project: str | None, debug: bool
) -> None:
    """A Compose file whose services are virtual machines."""
    session.socket_option = socket
    session.files = files
    session.project = project
    session.debug = debug


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0 done, 1 failed, 2 usage, 3 invalid spec, 4 not found, 5 daemon not reachable, 6 timed out,
    7 refused, 130 interrupted, 141 nobody reads on; of exec and ssh, the command's own.
    """
    session = Session()
    try:
        code = root.main(args=args, prog_name="vmorch", obj=session, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except (click.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as error:
        return _misused(error)
    except Exception as error:
        if session.debug:
            raise
        return _told(error)


def _misused(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    print(f"error: {error.format_message()}", file=sys.stderr)
    print(f"See '{context.command_path if context else 'vmorch'} --help'.", file=sys.stderr)
    return error.exit_code


def _told(error: Exception) -> int:
    """One line that says what happened and one that says what to do."""
    failures = import_module("vmorch.cli.failures")
    return int(failures.tell(error))


if __name__ == "__main__":
    sys.exit(main())
