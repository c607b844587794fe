"""What the commands share: the session, and the options that many of them have."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vmorch.client import Client

F = TypeVar("F", bound=Callable[..., Any])

_CONFIG_FILE = "/etc/vmorch/config.toml"
_SOCKET = "/run/vmorch/api.sock"


class Session:
    """The root command's options, and the daemon that they lead to. `files` and `project` are
    the root's and are overridden by a command's own."""

    def __init__(self) -> None:
        self.socket_option: Path | None = None
        self.files: tuple[str, ...] = ()
        self.project: str | None = None
        self.debug = False

    @property
    def socket(self) -> Path:
        """--socket, else what the settings say; the settings are read only where there are any."""
        if self.socket_option is not None:
            return self.socket_option
        if named := os.environ.get("VMORCH_SOCKET"):
            return Path(named)
        if Path(os.environ.get("VMORCH_CONFIG", _CONFIG_FILE)).exists():
            from vmorch.config import load_settings

            return load_settings().socket
        return Path(_SOCKET)

    @property
    def client(self) -> Client:
        from vmorch.client import Client

        return Client(self.socket)


def project_options(*, short_file: bool = True) -> Callable[[F], F]:
    """--file and --project-name, as every command has them that is about one environment. A
    command's own value replaces the one given before its name. Without `short_file`, -f is left
    to the command, for which Compose gives it another meaning (--follow)."""

    def into(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
        def store(ctx: click.Context, _: click.Parameter, value: Any) -> None:
            if value:
                setattr(ctx.find_object(Session), name, value)

        return store

    def decorate(command: F) -> F:
        command = click.option(
            "-p",
            "--project-name",
            metavar="NAME",
            expose_value=False,
            callback=into("project"),
            help="The environment's name (VMORCH_PROJECT).",
        )(command)
        return click.option(
            *(("-f", "--file") if short_file else ("--file",)),
            multiple=True,
            metavar="FILE",
            expose_value=False,
            callback=into("files"),
            help="A vmorch file (VMORCH_FILE); several are merged.",
        )(command)

    return decorate


def output_option(command: F) -> F:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        help="What to print on standard output.",
    )(command)


def pairs(texts: tuple[str, ...], what: str) -> dict[str, str]:
    """NAME=VALUE options as a dictionary. Raises click.BadParameter."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"'{text}' is not of the form {what}.")
        found[name] = value
    return found


def counts(texts: tuple[str, ...]) -> dict[str, int]:
    """SERVICE=NUMBER options as a dictionary. Raises click.BadParameter."""
    found = {}
    for name, text in pairs(texts, "SERVICE=NUMBER").items():
        if not (text.isascii() and text.isdigit()):
            raise click.BadParameter(f"'{name}={text}': {text!r} is not a whole number.")
        found[name] = int(text)
    return found
