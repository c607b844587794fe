"""vmorch up."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import counts, session_of
from vmorch.cli.completion import scales
from vmorch.cli.options import POSITIVE, Files, Output, Profiles, ProjectName, several
from vmorch.cli.output import INSTANCE_HEADER, instance_row, print_json, print_table, say
from vmorch.errors import NotFound, TimedOut

if TYPE_CHECKING:
    from vmorch.cli.progress import Reporter
    from vmorch.client import Client
    from vmorch.model.spec import EnvironmentSpec
    from vmorch.model.view.environment import EnvironmentView
    from vmorch.model.view.instance import InstanceView


app = new_app()


@app.command(
    "up",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch up", "build, start, wait until ready, print the table"),
        ("vmorch up -d", "return at once; 'vmorch wait' waits later"),
        ("vmorch up --scale orders=3 --attach", "three instances, then follow the logs"),
        ("vmorch up -f compose.yaml -p test1", "the same file as another environment"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Return once the wish is written down.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until ready, also with -d.")] = False,
    attach: Annotated[
        bool,
        typer.Option("--attach", help="Follow the logs afterwards; Ctrl-C ends only that."),
    ] = False,
    build: Annotated[
        bool, typer.Option("--build", help="Build first: always done, named as in Compose.")
    ] = False,
    scale: Annotated[
        list[str],
        several(metavar="SERVICE=N", autocompletion=scales, help="Overrides deploy.replicas."),
    ],
    profiles: Profiles,
    timeout: Annotated[
        float | None,
        typer.Option(
            click_type=POSITIVE,
            metavar="SECONDS",
            help="Until ready; without it, what a boot takes here (longer without KVM).",
        ),
    ] = None,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Build, start and wait until everything is ready.

    Unlike Docker Compose, 'up' does not hold the terminal: it returns when the virtual machines
    are ready. With --attach it then follows their logs, and Ctrl-C leaves them running; 'vmorch
    down' stops them. Images are built each time, as an unchanged step costs nothing.
    """
    from vmorch.cli.imagery import with_images
    from vmorch.cli.progress import reporter
    from vmorch.cli.project import require_project
    from vmorch.cli.spec import load

    session = session_of(ctx, files=files, project=project)
    found = require_project(session)
    spec = _scaled(load(found, profiles=profiles), counts(scale))
    client = session.client
    client.version()  # no hashing of a large context for a daemon that is not there
    with reporter() as report:
        environment = client.apply(with_images(client, spec, found.directory, report))
        if detach and not wait:
            rows = client.instances(environment.name)
        else:
            rows = _ready(client, environment, report, timeout)
    _show(environment, rows, output)
    if attach:
        from vmorch.cli.commands.logs import show

        show(client, environment.name, follow=True, tail=0)


def _scaled(spec: EnvironmentSpec, scale: dict[str, int]) -> EnvironmentSpec:
    services = dict(spec.services)
    for name, count in scale.items():
        if name not in services:
            raise NotFound(
                f"The files have no service '{name}'.",
                hint=f"Their services: {', '.join(services)}.",
            )
        services[name] = replace(services[name], replicas=count)
    return replace(spec, services=services)


def _ready(
    client: Client, environment: EnvironmentView, report: Reporter, timeout: float | None
) -> list[InstanceView]:
    from vmorch.cli.waiting import Limits, NotReady, explain, wait_ready

    try:
        return wait_ready(client, environment, report, limits=Limits(timeout_seconds=timeout))
    except (NotReady, TimedOut) as error:
        waiting = [row for row in client.instances(environment.name) if not row.ready]
        guilty = error.instances if isinstance(error, NotReady) else waiting
        for line in explain(client, environment.name, guilty):
            say(line)
        raise


def _show(environment: EnvironmentView, rows: list[InstanceView], output: str) -> None:
    if output == "json":
        print_json(rows)
        return
    now = time.time()
    print_table(INSTANCE_HEADER, [instance_row(row, now) for row in rows])
    for name, service in environment.services.items():
        for route in service.routes:
            print(f"{name}: {route}")
        for published in service.published:
            print(f"{name}: {published}")
