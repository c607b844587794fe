"""vmorch up."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import counts, percent, session_of
from vmorch.cli.completion import scales
from vmorch.cli.options import (
    POSITIVE,
    DryRun,
    Files,
    Output,
    Profiles,
    ProjectName,
    Services,
    several,
)
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
        ("vmorch up orders", "orders and what it depends on; the rest stays as it is"),
        ("vmorch up --dry-run", "what would be done, and why"),
        ("vmorch up --canary 10%", "new revisions get a tenth of the requests first"),
        ("vmorch up --ttl 2h --holder $$", "gone after two hours, or with this shell"),
    ),
)
def command(
    ctx: typer.Context,
    *,
    names: Services,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Return once the wish is written down.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until ready, also with -d.")] = False,
    attach: Annotated[
        bool,
        typer.Option("--attach", help="Follow the logs afterwards; Ctrl-C ends only that."),
    ] = False,
    build: Annotated[
        bool,
        typer.Option(
            "--build/--no-build",
            help="Build first; or start from the images that were built before, whatever changed.",
        ),
    ] = True,
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
    ttl: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Remove it with its volumes after this time: 90s, 30m, 2h."
        ),
    ] = None,
    holder: Annotated[
        int | None,
        typer.Option(metavar="PID", help="Remove it with its volumes when this process has ended."),
    ] = None,
    canary: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="New revisions get this share of the requests, such as 10%, until 'vmorch rollout"
            " promote'.",
        ),
    ] = None,
    dry_run: DryRun = False,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Build, start and wait until everything is ready.

    Unlike Docker Compose, 'up' does not hold the terminal: it returns when the virtual machines
    are ready. With --attach it then follows their logs, and Ctrl-C leaves them running; 'vmorch
    down' stops them. Images are built each time, as an unchanged step costs nothing, unless
    --no-build says otherwise.
    """
    from vmorch.cli.dryrun import preview, show_steps
    from vmorch.cli.ending import holder_of, seconds
    from vmorch.cli.imagery import with_images
    from vmorch.cli.progress import reporter
    from vmorch.cli.project import require_project
    from vmorch.cli.rollouts import without_canary
    from vmorch.cli.spec import load

    session = session_of(ctx, files=files, project=project)
    ttl_seconds = seconds(ttl) if ttl else None
    held_by = holder_of(holder) if holder is not None else None
    share = percent(canary) if canary else None
    found = require_project(session)
    ordered = counts(scale)
    spec = _only(_scaled(load(found, profiles=profiles), ordered), names)
    client = session.client
    # A conflict should be told before minutes of building, not after them.
    steps = preview(client, spec, partial=bool(names), by_hand=ordered)
    if dry_run:
        show_steps(steps, output)
        return
    with reporter() as report:
        environment = client.apply(
            with_images(client, spec, found.directory, report, fresh=build),
            partial=bool(names),
            by_hand=ordered,
            ttl_seconds=ttl_seconds,
            holder=held_by,
            canary=share,
        )
        for line in without_canary(client, environment.name, spec.services) if share else ():
            say(line)
        if detach and not wait:
            rows = client.instances(environment.name)
        else:
            wanted = frozenset(spec.services) if names else frozenset()
            rows = _ready(client, environment, report, wanted, _watched(spec, environment), timeout)
    _show(environment, rows, output)
    if attach:
        from vmorch.cli.commands.logs import show

        show(client, environment.name, follow=True, tail=0)


def _scaled(spec: EnvironmentSpec, scale: dict[str, int]) -> EnvironmentSpec:
    services = dict(spec.services)
    for name, count in scale.items():
        if name not in services:
            raise _no_service(name, spec)
        services[name] = replace(services[name], replicas=count)
    return replace(spec, services=services)


def _only(spec: EnvironmentSpec, names: list[str]) -> EnvironmentSpec:
    """The services in `names` and those that they depend on; all when there are none."""
    if not names:
        return spec
    kept: dict[str, None] = {}
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in spec.services:
            raise _no_service(name, spec)
        if name not in kept:
            kept[name] = None
            todo += spec.services[name].depends_on
    return replace(spec, services={n: s for n, s in spec.services.items() if n in kept})


def _no_service(name: str, spec: EnvironmentSpec) -> NotFound:
    return NotFound(
        f"The files have no service '{name}'.",
        hint=f"Their services: {', '.join(spec.services)}.",
    )


def _watched(spec: EnvironmentSpec, environment: EnvironmentView) -> float:
    """What rollouts take beside the boots, when each instance is replaced alone."""
    return sum(
        max(1, environment.services[name].replicas)
        * (service.update.monitor_seconds + service.update.delay_seconds)
        for name, service in spec.services.items()
    )


def _ready(
    client: Client,
    environment: EnvironmentView,
    report: Reporter,
    services: frozenset[str],
    watched_seconds: float,
    timeout: float | None,
) -> list[InstanceView]:
    from vmorch.cli.waiting import Limits, NotReady, explain, wait_ready

    try:
        return wait_ready(
            client,
            environment,
            report,
            services=services,
            watched_seconds=watched_seconds,
            limits=Limits(timeout_seconds=timeout),
        )
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
