"""vmorch why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import session_of
from vmorch.cli.completion import guests
from vmorch.cli.options import Files, Output, ProjectName
from vmorch.cli.output import clean, duration, print_json
from vmorch.cli.project import require_environment

if TYPE_CHECKING:
    from vmorch.model.view.why import StepAheadView, WhyView


app = new_app()


@app.command(
    "why",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch why orders-2", "what it does, waits for, and will do"),
        ("vmorch why orders", "all of a service's instances at once"),
        ("vmorch why orders-2 -o json", "the same for programs"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="INSTANCE|SERVICE", autocompletion=guests, help="Also one that is gone."
        ),
    ],
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Explain why an instance or a service is as it is, and what happens next. Changes nothing."""
    session = session_of(ctx, files=files, project=project)
    found = session.client.why(require_environment(session), subject)
    if output == "json":
        print_json(found)
        return
    for line in _lines(found):
        print(clean(line))


def _lines(found: WhyView) -> Iterator[str]:
    yield found.summary
    yield from _part("now", found.waits)
    yield from _part("next", [_step(step, found.asked_at) for step in found.steps])
    yield from _part("also", found.notes)
    yield from _part(
        "events",
        [
            f"{duration(found.asked_at - event.time)} ago  {event.kind}"
            f"{f' {event.instance}' if event.instance != found.subject else ''}: {event.message}"
            for event in found.events
        ],
    )


def _part(heading: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"{heading}:"
        yield from (f"  {line}" for line in lines)


def _step(step: StepAheadView, now: float) -> str:
    when = "now" if step.at <= now else f"in {duration(step.at - now)}"
    return f"{when}: {step.what} ({step.reason})"
