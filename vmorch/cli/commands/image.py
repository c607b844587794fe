"""vmorch image."""

from __future__ import annotations

import time
from pathlib import Path

import click

from vmorch.cli.common import Session, output_option, pairs, project_options
from vmorch.cli.examples import ExampleCommand
from vmorch.cli.output import age, print_json, print_table, size
from vmorch.errors import NotFound


@click.group("image")
def command() -> None:
    """Build and list images."""


@command.command(
    "build",
    cls=ExampleCommand,
    examples=[
        ("vmorch image build", "the images of this directory's services"),
        ("vmorch image build orders --no-cache", "one service's, every step anew"),
        ("vmorch image build -t hello ./hello", "a directory with a Dockerfile"),
    ],
)
@click.argument("names", nargs=-1, metavar="[SERVICE]... | DIRECTORY")
@click.option("-t", "--tag", metavar="NAME", help="Build DIRECTORY and call the image NAME.")
@click.option("--dockerfile", default="Dockerfile", help="The Dockerfile's path in DIRECTORY.")
@click.option("--target", help="The stage to build, with -t.")
@click.option("--build-arg", "args", multiple=True, metavar="NAME=VALUE", help="With -t.")
@click.option("--no-cache", is_flag=True, help="Run every step anew.")
@project_options()
@output_option
@click.pass_obj
def build(
    session: Session,
    names: tuple[str, ...],
    tag: str | None,
    dockerfile: str,
    target: str | None,
    args: tuple[str, ...],
    no_cache: bool,
    output: str,
) -> None:
    """Build the images of services, or of a directory."""
    from vmorch.cli.imagery import build as build_image
    from vmorch.cli.progress import reporter
    from vmorch.model.spec import BuildSpec

    if tag is None:
        built = _of_services(session, names, no_cache=no_cache)
    else:
        if len(names) != 1:
            raise click.UsageError("With -t, name one DIRECTORY.")
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


def _of_services(session: Session, names: tuple[str, ...], *, no_cache: bool) -> dict[str, str]:
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


@command.command("ls", cls=ExampleCommand, examples=[("vmorch image ls -o json", "for programs")])
@output_option
@click.pass_obj
def list_images(session: Session, output: str) -> None:
    """List images. SIZE is an image with all its layers, OWN what only it needs."""
    images = session.client.images()
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
