"""Has images built and bases made, and puts their digests where the spec names them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmorch.context import BuildContext, read_context
from vmorch.errors import InvalidSpec, SpecProblem, VmorchError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vmorch.cli.progress import Reporter
    from vmorch.client import Client
    from vmorch.model.spec import BuildSpec, EnvironmentSpec, ServiceSpec


def with_images(
    client: Client,
    spec: EnvironmentSpec,
    directory: Path,
    report: Reporter,
    *,
    no_cache: bool = False,
    pull: bool = False,
) -> EnvironmentSpec:
    """`spec` with the digest of each service's image. A build always runs: what has not changed
    comes from the cache in no time. Services that share an image wait for it once."""
    done: dict[Any, str] = {}
    services = {}
    for name, service in spec.services.items():
        key = (repr(service.build), service.image)
        if key not in done:
            done[key] = _image(client, service, directory, report, no_cache=no_cache, pull=pull)
        services[name] = replace(service, image=done[key], build=None)
    return replace(spec, services=services)


def _image(
    client: Client,
    service: ServiceSpec,
    directory: Path,
    report: Reporter,
    *,
    no_cache: bool,
    pull: bool,
) -> str:
    if service.build is None:
        return client.ensure_image(service.image, lambda line: report.build(service.name, line))
    return build(
        client,
        service.build,
        directory,
        report,
        target=service.name,
        tag=service.image,
        no_cache=no_cache,
        pull=pull,
    )


def build(
    client: Client,
    spec: BuildSpec,
    directory: Path,
    report: Reporter,
    *,
    target: str,
    tag: str,
    no_cache: bool = False,
    pull: bool = False,
) -> str:
    """Send what the daemon lacks of the context, and build; the image's digest.

    `directory` is where a relative context begins. `target` is what progress calls the image.

    Raises:
        InvalidSpec: there is no Dockerfile, or it has mistakes. BuildFailed: a step failed.
    """
    context_dir = (directory / spec.context).resolve()
    dockerfile = context_dir / spec.dockerfile
    inline = spec.dockerfile_inline
    text = _dockerfile_text(dockerfile) if inline is None else inline
    context = read_context(context_dir, dockerfile=dockerfile if inline is None else None)
    _send(client, context)
    request = {
        "name": tag,
        "dockerfile": text,
        "dockerfile_name": _shown(dockerfile) if inline is None else "dockerfile_inline",
        "context": [asdict(entry) for entry in context.entries],
        "args": spec.args,
        "target": spec.target,
        "no_cache": no_cache,
        "pull": pull,
    }
    return client.build(request, lambda line: report.build(target, line))


def _dockerfile_text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        problem = SpecProblem(_shown(path), 0, 0, "", f"the Dockerfile cannot be read: {what}")
        raise InvalidSpec(
            [problem], hint="'build:' names the directory, 'dockerfile:' the file in it."
        ) from error


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _send(client: Client, context: BuildContext) -> None:
    missing: Iterable[str] = client.missing_blobs(list(context.files)) if context.files else ()
    for digest in missing:
        path = context.files[digest]
        try:
            with path.open("rb") as content:
                client.put_blob(digest, content)
        except OSError as error:
            raise VmorchError(
                f"{path} cannot be sent: {error.strerror or error}.",
                hint="Was it changed while the build began? Run the command again.",
            ) from error
