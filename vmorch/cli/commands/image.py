"""vmorch image."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import Session, pairs, session_of
from vmorch.cli.completion import services
from vmorch.cli.options import Files, Output, ProjectName, any_number, several
from vmorch.cli.output import age, print_json, print_table, size
from vmorch.errors import NotFound

app = new_app("Build and list images.")


@app.command(
    "build",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch image build", "the images of this directory's services"),
        ("vmorch image build orders --no-cache", "one service's, every step anew"),
        ("vmorch image build -t hello ./hello", "a directory with a Dockerfile"),
    ),
)
def build(
    ctx: typer.Context,
    *,
    names: Annotated[
        list[str],
        any_number(
            metavar="[SERVICE]... | DIRECTORY",
            autocompletion=services,
            help="Of these services only; with -t, where the Dockerfile is.",
        ),
    ],
    tag: Annotated[
        str | None,
        typer.Option(
            "-t", "--tag", metavar="NAME", help="Build DIRECTORY and call the image NAME."
        ),
    ] = None,
    dockerfile: Annotated[
        str, typer.Option(metavar="PATH", help="The Dockerfile's path in DIRECTORY.")
    ] = "Dockerfile",
    target: Annotated[
        str | None, typer.Option(metavar="STAGE", help="The stage to build, with -t.")
    ] = None,
    args: Annotated[
        list[str],
        several("--build-arg", metavar="NAME=VALUE", help="With -t."),
    ],
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every step anew.")] = False,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Build the images of services, or of a directory."""
    from vmorch.cli.imagery import build as build_image
    from vmorch.cli.progress import reporter
    from vmorch.model.spec import BuildSpec

    session = session_of(ctx, files=files, project=project)
    if tag is None:
        built = _of_services(session, names, no_cache=no_cache)
    else:
        if len(names) != 1:
            raise typer.BadParameter("With -t, name one DIRECTORY.")
        spec = BuildSpec(
            context=".", dockerfile=dockerfile, args=pairs(args, "NAME=VALUE"), target=target
        )
        with reporter() as report:
            digest = build_image(
                session.client,
                spec,
                Path(names[0]),
                report,
                target=tag,
                tag=tag,
                no_cache=no_cache,
            )
        built = {tag: digest}
    if output == "json":
        print_json(built)
    else:
        print_table(("IMAGE", "DIGEST"), [[name, digest] for name, digest in built.items()])


def _of_services(session: Session, names: list[str], *, no_cache: bool) -> dict[str, str]:
    from dataclasses import replace

    from vmorch.cli.imagery import with_images
    from vmorch.cli.progress import reporter
    from vmorch.cli.project import require_project
    from vmorch.cli.spec import load

    project = require_project(session)
    spec = load(project)
    for name in names:
        if name not in spec.services:
            raise NotFound(
                f"The files have no service '{name}'.",
                hint=f"Their services: {', '.join(spec.services)}.",
            )
    wanted = {name: s for name, s in spec.services.items() if not names or name in names}
    with reporter() as report:
        resolved = with_images(
            session.client,
            replace(spec, services=wanted),
            project.directory,
            report,
            no_cache=no_cache,
        )
    return {name: service.image for name, service in resolved.services.items()}


@app.command("ls", cls=ExampleCommand, epilog=examples(("vmorch image ls -o json", "for programs")))
def list_images(ctx: typer.Context, *, output: Output = "table") -> None:
    """List images. SIZE is an image with all its layers, OWN what only it needs."""
    images = session_of(ctx).client.images()
    if output == "json":
        print_json(images)
        return
    now = time.time()
    print_table(
        ("NAMES", "DIGEST", "BASE", "SIZE", "OWN", "AGE"),
        [
            [
                ",".join(image.names) or "-",
                image.digest.removeprefix("sha256:")[:12],
                image.base,
                size(image.size_bytes),
                size(image.own_bytes),
                age(image.created_at, now),
            ]
            for image in images
        ],
    )
