"""What the commands share: the session, and values of the form NAME=VALUE."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import typer

if TYPE_CHECKING:
    from vmorch.client import Client

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


def session_of(
    ctx: click.Context, *, files: Sequence[str] | None = None, project: str | None = None
) -> Session:
    """The session of this run. What a command was given replaces the root's."""
    session = ctx.find_object(Session)
    assert session is not None
    session.files = tuple(files or session.files)
    session.project = project or session.project
    return session


def pairs(texts: Sequence[str], what: str) -> dict[str, str]:
    """NAME=VALUE options as a dictionary. Raises typer.BadParameter."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"'{text}' is not of the form {what}.")
        found[name] = value
    return found


def counts(texts: Sequence[str]) -> dict[str, int]:
    """SERVICE=NUMBER options as a dictionary. Raises typer.BadParameter."""
    found = {}
    for name, text in pairs(texts, "SERVICE=NUMBER").items():
        if not (text.isascii() and text.isdigit()):
            raise typer.BadParameter(f"'{name}={text}': {text!r} is not a whole number.")
        found[name] = int(text)
    return found


def percent(text: str) -> int:
    """`10%` or `10`, from 1 to 99. Raises typer.BadParameter."""
    number = text.removesuffix("%")
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= 99):
        raise typer.BadParameter(f"{text!r} is no share from 1% to 99%.")
    return int(number)
