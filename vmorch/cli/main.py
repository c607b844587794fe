"""The entry point: the list of commands, and how errors leave the program.

A Typer app whose commands are Typer apps of their own, each imported when it is called; `--help`
reads only the list here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import click
import typer
from typer.main import get_command

from vmorch.cli import completion
from vmorch.cli.common import Session, session_of
from vmorch.cli.lazy import LazyGroup
from vmorch.cli.options import Files, ProjectName

# heading -> name -> (module under vmorch.cli.commands, what `--help` says)
COMMANDS = {
    "Environments": {
        "up": ("up", "Build, start and wait until everything is ready."),
        "down": ("down", "Stop and remove an environment."),
        "ps": ("ps", "List instances."),
        "top": ("top", "Show what instances and services use."),
        "rollout": ("rollout", "Follow and steer the way to a new revision."),
        "scale": ("scale", "Change how many instances a service has."),
        "stop": ("stop", "Shut guests down, or put them to sleep, and keep their disks."),
        "start": ("start", "Start what was stopped or paused, or sleeps."),
        "restart": ("restart", "Stop and start, one after the other."),
        "pause": ("pause", "Freeze guests where they are."),
        "unpause": ("unpause", "Go on with what was paused."),
        "wait": ("wait", "Wait until an environment is ready, or gone."),
        "env": ("env", "List and remove environments."),
    },
    "Instances": {
        "logs": ("logs", "Show what services and consoles wrote."),
        "exec": ("exec_", "Run a command in an instance."),
        "ssh": ("ssh", "Open a shell in an instance."),
        "console": ("console", "Open an instance's serial console."),
        "cp": ("cp", "Copy files from and to an instance."),
        "port": ("port", "Print where the host has a service's port."),
        "events": ("events", "Show what happened."),
        "why": ("why", "Explain why something is as it is, and what is next."),
    },
    "Files and images": {
        "validate": ("validate", "Check vmorch files; needs no daemon."),
        "config": ("config", "Print the resolved vmorch file."),
        "image": ("image", "Build and list images."),
        "snapshot": ("snapshot", "Make, list and remove warm snapshots."),
    },
    "Host": {
        "doctor": ("doctor", "Check what this host needs."),
        "tls": ("tls", "Print the certificate authority of *.localhost."),
        "daemon": ("daemon", "Run, start and stop the daemon."),
        "completion": ("completion", "Print a completion script for bash, zsh or fish."),
        "help": ("help_", "Explain a topic or a command, with examples."),
        "version": ("version", "Print the versions of client and daemon."),
    },
}


class Root(LazyGroup):
    headings = COMMANDS
    package = "vmorch.cli.commands"


app = typer.Typer(
    cls=Root,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="'vmorch COMMAND --help' shows a command's options and examples, 'vmorch help' topics.",
)


@app.callback()
def root(
    ctx: typer.Context,
    *,
    socket: Annotated[
        Path | None,
        typer.Option(
            click_type=click.Path(path_type=Path), metavar="PATH", help="The daemon's socket."
        ),
    ] = None,
    files: Files,
    project: ProjectName = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")] = False,
) -> None:
    """A Compose file whose services are virtual machines."""
    session = session_of(ctx, files=files, project=project)
    session.socket_option = socket
    session.debug = debug


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0 done, 1 failed, 2 usage, 3 invalid spec, 4 not found, 5 daemon not reachable, 6 timed out,
    7 refused, 130 interrupted, 141 nobody reads on; of exec and ssh, the command's own.
    """
    session = Session()
    command = get_command(app)
    try:
        if instruction := os.environ.get(completion.VARIABLE):
            return completion.answer(command, session, instruction)
        code = command.main(args, prog_name="vmorch", obj=session, standalone_mode=False)
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
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
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
