"""Examples under a command's help: each a line to copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click


class ExampleCommand(click.Command):
    """A command with `examples`: pairs of what to type and what it does."""

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if self._examples:
            with formatter.section("Examples"):
                width = max(len(command) for command, _ in self._examples)
                for command, meaning in self._examples:
                    formatter.write(f"  {command.ljust(width)}  {meaning}\n")
