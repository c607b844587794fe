"""Has images built and bases made, and puts their digests where the spec names them."""

from __future__ import annotations

import base64
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmorch.context import BuildContext, read_context
from vmorch.errors import InvalidSpec, SpecProblem, UsageError, VmorchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from vmorch.cli.progress import Reporter
    from vmorch.client import Client
    from vmorch.model.spec import BuildSpec, EnvironmentSpec, ServiceSpec


def with_images(
    client: Client,
    spec: EnvironmentSpec,
    directory: Path,
    report: Reporter,
    *,
    fresh: bool = True,
    args: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    no_cache: bool = False,
    pull: bool = False,
) -> EnvironmentSpec:
    """`spec` with the digest of each service's image, and without the secrets that only builds
    are given. Services that share an image wait for it once.

    A build always runs, as what has not changed comes from the cache in no time; without `fresh`
    none does, and the image is the one that bears the name. `args` and `secrets` go with every
    build, before what it has of the same name.
    """
    if not fresh:
        spec = replace(spec, services={n: replace(s, build=None) for n, s in spec.services.items()})
    done: dict[Any, str] = {}
    services = {}
    for name, service in spec.services.items():
        key = (repr(service.build), service.image)
        if key not in done:
            given = spec.build_secrets(service.build) if service.build else {}
            done[key] = _image(
                client,
                service,
                directory,
                report,
                args=args or {},
                secrets={**given, **(secrets or {})},
                no_cache=no_cache,
                pull=pull,
            )
        services[name] = replace(service, image=done[key], build=None)
    return spec.with_services(services)


def _image(
    client: Client,
    service: ServiceSpec,
    directory: Path,
    report: Reporter,
    *,
    args: Mapping[str, str],
    secrets: dict[str, str],
    no_cache: bool,
    pull: bool,
) -> str:
    if service.build is None:
        return client.ensure_image(service.image, lambda line: report.build(service.name, line))
    return build(
        client,
        replace(service.build, args={**service.build.args, **args}),
        directory,
        report,
        target=service.name,
        tag=service.image,
        no_cache=no_cache,
        pull=pull,
        secrets=secrets,
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
    secrets: dict[str, str] | None = None,
) -> str:
    """Send what the daemon lacks of the context, and build; the image's digest.

    `directory` is where a relative context begins. `target` is what progress calls the image.
    `secrets` are base64, by id (see `read_secrets` and `EnvironmentSpec.build_secrets`).

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
        "secrets": secrets or {},
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


def read_secrets(texts: Iterable[str]) -> dict[str, str]:
    """`--secret id=NAME[,src=FILE|,env=VARIABLE]` as base64 by id; with neither, the variable
    NAME, else the file NAME.

    Raises:
        UsageError: the form is another, or there is no such file or variable.
    """
    found = {}
    for text in texts:
        values = dict(part.partition("=")[::2] for part in text.split(","))
        values["src"] = values.pop("source", values.get("src", ""))
        if not values.get("id") or values.keys() - {"id", "src", "env", "type"}:
            raise UsageError(
                f"--secret {text}: the form is id=NAME[,src=FILE] or id=NAME,env=VARIABLE."
            )
        found[values["id"]] = base64.b64encode(_secret(values)).decode()
    return found


def _secret(values: dict[str, str]) -> bytes:
    name, file = values["id"], values["src"]
    variable = values.get("env") or ("" if file else name)
    if variable in os.environ:
        return os.environb[os.fsencode(variable)]
    if values.get("env"):
        raise UsageError(f"The variable {variable} of the secret '{name}' is not set.")
    path = Path(file or name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"The secret '{name}' cannot be read from {path}: {error.strerror}.",
            hint="Give --secret id=NAME,src=FILE or id=NAME,env=VARIABLE.",
        ) from error
