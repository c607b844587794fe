"""Reads a project's vmorch files from disk, for the pure reader in `vmorch.model.compose`."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from vmorch.cli.output import say
from vmorch.cli.project import Project, default_name
from vmorch.errors import InvalidSpec, NotFound, SpecProblem
from vmorch.model.compose import SourceFile
from vmorch.model.compose import load as load_files
from vmorch.model.spec import EnvironmentSpec

# Larger is no vmorch file; reading it whole would only take the memory.
_LARGEST_BYTES = 4 * 1024**2


def load(project: Project, *, profiles: Collection[str] = ()) -> EnvironmentSpec:
    """The environment that the project's files describe, with variables of the environment and
    of `.env` beside the first file (the environment wins).

    Raises:
        InvalidSpec: every problem of all files. NotFound: a file cannot be read.
    """
    files = [SourceFile.from_bytes(str(file), _content(file)) for file in project.files]
    active = {*profiles, *filter(None, os.environ.get("VMORCH_PROFILES", "").split(","))}
    return load_files(
        files,
        variables={**_dot_env(project.directory), **os.environ},
        read=lambda name: _text(project.directory / name),
        read_bytes=lambda name: _bytes(project.directory / name),
        project_name=project.name,
        profiles=active,
        default_name=default_name(project.directory),
        warn=lambda message: say(f"warning: {message}"),
    )


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise NotFound(
            f"{file} cannot be read: {error.strerror}.", hint="Name another with -f FILE."
        ) from error
    if len(content) > _LARGEST_BYTES:
        problem = SpecProblem(str(file), 0, 0, "", "the file is larger than 4 MiB")
        raise InvalidSpec([problem])
    return content


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


def _bytes(path: Path) -> bytes | None:
    try:
        with path.open("rb") as stream:
            return stream.read(_LARGEST_BYTES)
    except OSError:
        return None


def _dot_env(directory: Path) -> dict[str, str]:
    from vmorch.model.compose.dotenv import BadLine, parse_env

    path = directory / ".env"
    if (text := _text(path)) is None:
        return {}
    try:
        return parse_env(text, os.environ)
    except BadLine as error:
        raise InvalidSpec([SpecProblem(str(path), error.line, 1, "", error.message)]) from error
