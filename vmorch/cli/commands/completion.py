"""vmorch completion."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from click.shell_completion import get_completion_class

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.completion import VARIABLE

app = new_app()


@app.command(
    "completion",
    cls=ExampleCommand,
    epilog=examples(
        ("source <(vmorch completion bash)", "in this shell, or in ~/.bashrc; zsh the same"),
        ("vmorch completion fish > ~/.config/fish/completions/vmorch.fish", "for fish"),
    ),
)
def command(
    ctx: typer.Context,
    shell: Annotated[
        Literal["bash", "zsh", "fish"], typer.Argument(metavar="bash|zsh|fish", help="The shell.")
    ],
) -> None:
    """Print a shell's completion script. It completes names of services and instances too."""
    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(ctx.find_root().command, {}, "vmorch", VARIABLE).source())
