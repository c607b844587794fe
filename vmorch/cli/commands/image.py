"""vmorch image."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmorch.cli.apps import ExampleCommand, examples, new_app
from vmorch.cli.common import Session, pairs, session_of
from vmorch.cli.completion import images, services
from vmorch.cli.options import Files, Output, ProjectName, any_number, several
from vmorch.cli.output import age, print_json, print_table, say, size
from vmorch.errors import NotFound

if TYPE_CHECKING:
    from vmorch.model.view.image import FreedView, ImageView

app = new_app("Build, list, import and remove images.")

_LINE = 70

Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE...", autocompletion=images, help="Names, or beginnings of digests."
    ),
]


@app.command(
    "build",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch image build", "the images of this directory's services"),
        ("vmorch image build orders --no-cache", "one service's, every step anew"),
        ("vmorch image build --build-arg VERSION=2", "with another value than the files have"),
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
        str | None,
        typer.Option(metavar="PATH", help="The Dockerfile's path in DIRECTORY; only with -t."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="STAGE", help="The stage to build; only with -t.")
    ] = None,
    args: Annotated[
        list[str],
        several(
            "--build-arg",
            metavar="NAME=VALUE",
            help="For every build, before what the files say of the same name.",
        ),
    ],
    secrets: Annotated[
        list[str],
        several(
            "--secret",
            metavar="id=NAME[,src=FILE]",
            help="For steps that mount it, of every build; env=VARIABLE instead of a file.",
        ),
    ],
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every step anew.")] = False,
    pull: Annotated[
        bool, typer.Option("--pull", help="Renew bases that have newer packages.")
    ] = False,
    files: Files,
    project: ProjectName = None,
    output: Output = "table",
) -> None:
    """Build the images of services, or of a directory."""
    from vmorch.cli.imagery import build as build_image
    from vmorch.cli.imagery import read_secrets
    from vmorch.cli.progress import reporter
    from vmorch.model.spec import BuildSpec

    session = session_of(ctx, files=files, project=project)
    values, contents = pairs(args, "NAME=VALUE"), read_secrets(secrets)
    if tag is None:
        for option, value in (("--target", target), ("--dockerfile", dockerfile)):
            if value is not None:
                raise typer.BadParameter(
                    f"{option} goes with -t: the build of a service says its own in its file."
                )
        built = _of_services(
            session, names, args=values, secrets=contents, no_cache=no_cache, pull=pull
        )
    else:
        if len(names) != 1:
            raise typer.BadParameter("With -t, name one DIRECTORY.")
        spec = BuildSpec(
            context=".", dockerfile=dockerfile or "Dockerfile", args=values, target=target
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
                pull=pull,
                secrets=contents,
            )
        built = {tag: digest}
    if output == "json":
        print_json(built)
    else:
        print_table(("IMAGE", "DIGEST"), [[name, digest] for name, digest in built.items()])


def _of_services(
    session: Session,
    names: list[str],
    *,
    args: dict[str, str],
    secrets: dict[str, str],
    no_cache: bool,
    pull: bool,
) -> dict[str, str]:
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
            args=args,
            secrets=secrets,
            no_cache=no_cache,
            pull=pull,
        )
    return {name: service.image for name, service in resolved.services.items()}


@app.command("ls", cls=ExampleCommand, epilog=examples(("vmorch image ls -o json", "for programs")))
def list_images(ctx: typer.Context, *, output: Output = "table") -> None:
    """List images. OWN is what only this image needs, SHARED what others stand on too."""
    images = session_of(ctx).client.images()
    if output == "json":
        print_json([_with_shared(image) for image in images])
        return
    now = time.time()
    print_table(
        ("NAMES", "DIGEST", "BASE", "SIZE", "OWN", "SHARED", "AGE"),
        [
            [
                ",".join(image.names) or "-",
                _short(image.digest),
                image.base,
                size(image.size_bytes),
                size(image.own_bytes),
                size(image.size_bytes - image.own_bytes),
                age(image.created_at, now),
            ]
            for image in images
        ],
    )


def _with_shared(image: ImageView) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(image), "shared_bytes": image.size_bytes - image.own_bytes}


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


Image = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE", autocompletion=images, help="A name, or the beginning of a digest."
    ),
]


@app.command(
    "inspect", cls=ExampleCommand, epilog=examples(("vmorch image inspect orders", "as JSON"))
)
def inspect(
    ctx: typer.Context,
    *,
    image: Image,
    content: Annotated[
        bool, typer.Option("--content", help="Read all files, and add the digest of them.")
    ] = False,
) -> None:
    """Show all of an image as JSON: layers, how it boots, how its service runs."""
    client = session_of(ctx).client
    found = client.image(image)
    if content:
        found["content"] = client.image_content(image)
    print_json(found)


@app.command(
    "history",
    cls=ExampleCommand,
    epilog=examples(("vmorch image history orders", "what made it so large, what took so long")),
)
def history(ctx: typer.Context, *, image: Image, output: Output = "table") -> None:
    """Show an image's layers, the newest first: instruction, time, bytes, cached or not."""
    layers = session_of(ctx).client.image_history(image)[::-1]
    if output == "json":
        print_json(layers)
        return
    now = time.time()
    print_table(
        ("LAYER", "AGE", "TOOK", "SIZE", "CACHED", "INSTRUCTION"),
        [
            [
                _short(layer.digest),
                age(layer.created_at, now),
                f"{layer.seconds:.1f}s",
                size(layer.size_bytes),
                "yes" if layer.cached else "no",
                _line(layer.created_by),
            ]
            for layer in layers
        ],
    )


def _line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _LINE else words[: _LINE - 1] + "…"


@app.command(
    "verify",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch image verify", "all layers, byte by byte"),
        ("vmorch image verify orders", "those of one image"),
    ),
)
def verify(
    ctx: typer.Context,
    *,
    image: Annotated[
        str | None,
        typer.Argument(
            metavar="[IMAGE]", autocompletion=images, help="A name, or the beginning of a digest."
        ),
    ] = None,
    output: Output = "table",
) -> None:
    """Read layers whole, and tell which are not what was written.

    Size and header are checked at each use anyway; this reads every byte of what builds wrote. The
    next build makes a damaged layer anew."""
    found = session_of(ctx).client.verify_images(image)
    if output == "json":
        print_json(found)
    elif found.damaged:
        print_table(
            ("LAYER", "DAMAGE", "IMAGES"),
            [[_short(d.digest), d.reason, ",".join(d.images) or "-"] for d in found.damaged],
        )
    say(f"{found.layers} layers, {size(found.bytes_read)} read, {len(found.damaged)} damaged")
    if found.damaged:
        raise typer.Exit(1)


@app.command(
    "tag",
    cls=ExampleCommand,
    epilog=examples(("vmorch image tag orders orders:known-good", "one more name")),
)
def tag_image(
    ctx: typer.Context,
    *,
    image: Image,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")],
) -> None:
    """Give an image one more name, which also keeps it from 'prune'."""
    session_of(ctx).client.tag_image(image, name)


@app.command(
    "rm",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch image rm orders", "the name; with its last one, the image"),
        ("vmorch image rm 3f2a9c1b", "by digest, with all its names"),
    ),
)
def remove(ctx: typer.Context, *, images: Images, output: Output = "table") -> None:
    """Remove images. Refused while an instance or a revision needs one.

    Their warm snapshots go with them."""
    client = session_of(ctx).client
    _tell_freed([client.remove_image(image) for image in images], output)


@app.command(
    "prune",
    cls=ExampleCommand,
    epilog=examples(("vmorch image prune --all", "with the cache of the last hour's builds")),
)
def prune(
    ctx: typer.Context,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what builds of the last hour made or used.")
    ] = False,
    output: Output = "table",
) -> None:
    """Remove images without a name, and layers of none, that nothing needs.

    Their warm snapshots go with them. What an instance needs, or a revision that can be rolled back
    to, always stays."""
    _tell_freed([session_of(ctx).client.prune_images(everything=everything)], output)


def _tell_freed(freed: list[FreedView], output: str) -> None:
    names = [name for each in freed for name in each.names]
    digests = [digest for each in freed for digest in each.images]
    layers = [digest for each in freed for digest in each.layers]
    snapshots = [key for each in freed for key in each.snapshots]
    count = sum(each.bytes_freed for each in freed)
    if output == "json":
        print_json(
            {
                "names": names,
                "images": digests,
                "layers": layers,
                "snapshots": snapshots,
                "bytes_freed": count,
            }
        )
        return
    rows = [["name", name] for name in names]
    rows += [["image", _short(digest)] for digest in digests]
    rows += [["layer", _short(digest)] for digest in layers]
    rows += [["snapshot", key[:12]] for key in snapshots]
    if rows:
        print_table(("REMOVED", ""), rows)
    say(f"{size(count)} freed")


@app.command(
    "import",
    cls=ExampleCommand,
    epilog=examples(
        ("vmorch image import debian-cloud disk.qcow2 --sha256 4f1c…", "a file"),
        ("vmorch image import own https://example.org/disk.raw --sha256 9b0d…", "a URL"),
    ),
)
def import_image(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the image.")],
    source: Annotated[
        str, typer.Argument(metavar="FILE|URL", help="A qcow2 or raw disk with a Linux.")
    ],
    sha256: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="What its publisher says it is.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Take it as it is, without a digest.")
    ] = False,
    partition: Annotated[
        int | None,
        typer.Option("--root-partition", metavar="NUMBER", help="Where several may hold the root."),
    ] = None,
    output: Output = "table",
) -> None:
    """Import a disk as an image to run, or to build upon with FROM NAME."""
    from vmorch.cli.imports import import_disk
    from vmorch.cli.progress import reporter

    with reporter() as report:
        digest = import_disk(
            session_of(ctx).client,
            name,
            source,
            report,
            sha256=sha256,
            insecure=insecure,
            partition=partition,
        )
    if output == "json":
        print_json({name: digest})
    else:
        print_table(("IMAGE", "DIGEST"), [[name, digest]])
