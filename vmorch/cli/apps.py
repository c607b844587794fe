"""How a command's module declares itself: an app with one command, or with several as a group."""

from __future__ import annotations

import click
import typer
from typer.core import TyperCommand


def new_app(help: str | None = None) -> typer.Typer:
    """An app to add commands to. With several it is a group, and `help` says what for."""
    return typer.Typer(help=help, add_completion=False, no_args_is_help=True)


def examples(*lines: tuple[str, str]) -> str:
    """The epilog of an ExampleCommand: pairs of what to type and what it does."""
    width = max(len(command) for command, _ in lines)
    return "Examples:\n" + "".join(f"  {line.ljust(width)}  {does}\n" for line, does in lines)


class ExampleCommand(TyperCommand):
    """A command whose epilog stays as it is: each example is a line to copy."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(self.epilog)
