"""A group that knows its commands by name and imports one when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import click
from click.shell_completion import CompletionItem
from typer.core import TyperGroup
from typer.main import get_command

_BROKEN_PIPE = 141  # as a shell shows a program that SIGPIPE has ended


class LazyGroup(TyperGroup):
    """`headings` leads from heading and name to (module, help line); the module, under `package`,
    has the command as `app`, which becomes a Click command when it is asked for."""

    headings: ClassVar[Mapping[str, Mapping[str, tuple[str, str]]]]
    package: ClassVar[str]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            # The reader has seen enough. Typer would exit with 1, which says that we failed.
            _drop_output()
            ctx.exit(_BROKEN_PIPE)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for group in self.headings.values() for name in group]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands:
            for group in self.headings.values():
                if cmd_name in group:
                    module = import_module(f"{self.package}.{group[cmd_name][0]}")
                    self.commands[cmd_name] = get_command(module.app)
        return self.commands.get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"There is no command '{args[0]}'.{self._suggestion(ctx, args[0])}")
        return super().resolve_command(ctx, args)

    def _suggestion(self, ctx: click.Context, name: str) -> str:
        from difflib import get_close_matches

        near = get_close_matches(name, self.list_commands(ctx), n=1)
        return f" Did you mean '{near[0]}'?" if near else ""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, group in self.headings.items():
            with formatter.section(heading):
                formatter.write_dl([(name, text) for name, (_, text) in group.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Command names from the list; Click would import every module for its help."""
        found = [
            CompletionItem(name, help=text)
            for group in self.headings.values()
            for name, (_, text) in group.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def _drop_output() -> None:
    """What is still in the buffer goes nowhere, instead of failing at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
