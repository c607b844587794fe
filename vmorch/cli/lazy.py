"""A Click group that knows its commands by name and imports one when it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

_BROKEN_PIPE = 141  # as a shell shows a program that SIGPIPE has ended


class LazyGroup(click.Group):
    """`commands_by_heading` leads from heading and name to (module, help line); the module, under
    `package`, has the command as `command`."""

    def __init__(
        self,
        *args: Any,
        commands_by_heading: Mapping[str, Mapping[str, tuple[str, str]]],
        package: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._headings = commands_by_heading
        self._package = package

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            # The reader has seen enough. Click would exit with 1, which says that we failed.
            _drop_output()
            ctx.exit(_BROKEN_PIPE)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for group in self._headings.values() for name in group]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for group in self._headings.values():
            if cmd_name in group:
                module = import_module(f"{self._package}.{group[cmd_name][0]}")
                command = module.command
                assert isinstance(command, click.Command)
                return command
        return None

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
        for heading, group in self._headings.items():
            with formatter.section(heading):
                formatter.write_dl([(name, text) for name, (_, text) in group.items()])


def _drop_output() -> None:
    """What is still in the buffer goes nowhere, instead of failing at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
