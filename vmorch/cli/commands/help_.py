"""vmorch help."""

from __future__ import annotations

from typing import Annotated

import click
import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.output import print_table
from vmorch.cli.topics import TOPICS
from vmorch.errors import NotFound

app = new_app()


def _topics(ctx: typer.Context) -> list[str]:
    root = ctx.find_root().command
    assert isinstance(root, click.Group)
    return [*TOPICS, *root.list_commands(ctx)]


@app.command(
    "help",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch help", "the topics"),
        ("vmorch help environments", "one of them"),
        ("vmorch help up", "the same as vmorch up --help"),
    ),
)
def command(
    ctx: typer.Context,
    topic: Annotated[
        str | None, typer.Argument(autocompletion=_topics, help="A topic or a command.")
    ] = None,
) -> None:
    """Explain a topic or a command, with examples."""
    if topic is None:
        print_table(("TOPIC", "ABOUT"), [(name, about) for name, (about, _) in TOPICS.items()])
        print("\n'vmorch help TOPIC' explains one, 'vmorch COMMAND --help' a command.")
    elif topic in TOPICS:
        about, text = TOPICS[topic]
        print(f"{about}\n\n{text}", end="")
    else:
        print(_of_command(ctx, topic))


def _of_command(ctx: typer.Context, name: str) -> str:
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)
    found = root.command.get_command(root, name)
    if found is None:
        raise NotFound(
            f"There is no topic or command '{name}'.", hint=f"Topics: {', '.join(TOPICS)}."
        )
    return found.get_help(click.Context(found, info_name=name, parent=root))
