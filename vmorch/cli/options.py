"""Options and arguments that several commands have, each declared once as an annotation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import click
import typer

from vmorch.cli.completion import environments, guests, services


def several(*names: str, **settings: Any) -> Any:
    """An option that may be given several times; without it, the list is empty."""
    return typer.Option(*names, default_factory=list, show_default=False, **settings)


def any_number(**settings: Any) -> Any:
    """Arguments of any number, none included."""
    return typer.Argument(default_factory=list, show_default=False, **settings)


POSITIVE = click.FloatRange(min=0, min_open=True)

_FILES: dict[str, Any] = {
    "metavar": "FILE",
    "click_type": click.Path(),
    "help": "A vmorch file (VMORCH_FILE); several are merged.",
}
Files = Annotated[list[str], several("-f", "--file", **_FILES)]

# Without -f, for commands in which Compose gives it another meaning (--follow).
LongFiles = Annotated[list[str], several("--file", **_FILES)]

ProjectName = Annotated[
    str | None,
    typer.Option(
        "-p",
        "--project-name",
        metavar="NAME",
        autocompletion=environments,
        help="The environment's name (VMORCH_PROJECT).",
    ),
]

Output = Annotated[
    Literal["table", "json"],
    typer.Option("-o", "--output", show_default=False, help="What to print on standard output."),
]

Profiles = Annotated[
    list[str], several("--profile", metavar="NAME", help="Enable services of a profile.")
]

Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="A time, or how long ago: 10m, 2026-11-24T10:00:00."),
]

Timeout = Annotated[
    float | None, typer.Option(click_type=POSITIVE, metavar="SECONDS", help="How long to wait.")
]

Services = Annotated[
    list[str],
    any_number(metavar="[SERVICE]...", autocompletion=services, help="Of these services only."),
]

Guests = Annotated[
    list[str],
    any_number(
        metavar="[SERVICE|INSTANCE]...", autocompletion=guests, help="Of these only; else of all."
    ),
]

Detach = Annotated[
    bool, typer.Option("-d", "--detach", help="Return once the wish is written down.")
]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done and why; change nothing.")
]

Guest = Annotated[
    str,
    typer.Argument(
        metavar="SERVICE|INSTANCE",
        autocompletion=guests,
        help="Of a service, its first ready instance.",
    ),
]
