"""Which vmorch files a command means, and which environment, by Docker Compose's rules."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmorch.errors import NotFound, UsageError

if TYPE_CHECKING:
    from vmorch.cli.common import Session

FILE_NAMES = (
    "vmorch.yaml",
    "vmorch.yml",
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
)
_NAME_LINE = re.compile(r"^name:.*$", re.MULTILINE)
_PLAIN_NAME = re.compile(r"name:[ \t]+([\"']?)([a-z0-9][a-z0-9_-]*)\1[ \t]*(?:#.*)?\Z")


@dataclass(frozen=True, slots=True)
class Project:
    """`directory` is where relative paths begin. `name` None: the files (or it) decide."""

    files: tuple[Path, ...]
    directory: Path
    name: str | None


def find_project(session: Session) -> Project | None:
    """The project that -f, VMORCH_FILE, or the working directory and those above it lead to.
    None when no file is named and none is there."""
    name = _given_name(session)
    named = session.files or tuple(
        part for part in os.environ.get("VMORCH_FILE", "").split(os.pathsep) if part
    )
    files = tuple(Path(file) for file in named) or _found_upwards(Path.cwd())
    if not files:
        return None
    for file in files:
        if not file.is_file():
            raise NotFound(f"There is no file {file}.", hint="Name another with -f FILE.")
    return Project(files, files[0].absolute().parent, name)


def require_project(session: Session) -> Project:
    """Raises NotFound: there is no vmorch file."""
    project = find_project(session)
    if project is None:
        raise NotFound(
            f"There is no vmorch file in {Path.cwd()} or above.",
            hint=f"Write {FILE_NAMES[0]} or {FILE_NAMES[2]}, or name a file with -f FILE.",
        )
    return project


def find_environment(session: Session) -> str | None:
    """The environment's name, without reading YAML where a glance at the file is enough."""
    if given := _given_name(session):
        return given
    project = find_project(session)
    return _name_of(project) if project else None


def is_named(session: Session) -> bool:
    """Whether the user named the environment, not just a file."""
    return _given_name(session) is not None


def require_environment(session: Session) -> str:
    """Raises NotFound: nothing says which environment is meant."""
    name = find_environment(session)
    if name is None:
        raise NotFound(
            f"Which environment? There is no vmorch file in {Path.cwd()} or above.",
            hint="Name it with -p NAME; 'vmorch env ls' lists them.",
        )
    return name


def default_name(directory: Path) -> str:
    """A directory's name as a project's, by Compose's normalisation.

    Raises:
        UsageError: nothing of it is left.
    """
    name = re.sub(r"[^a-z0-9_-]", "", directory.name.lower()).strip("_-")
    if not name:
        raise UsageError(
            f"The directory {directory} gives no name for the environment.",
            hint="Add 'name:' to the file or use -p NAME.",
        )
    return name


def _given_name(session: Session) -> str | None:
    return session.project or os.environ.get("VMORCH_PROJECT") or None


def _found_upwards(start: Path) -> tuple[Path, ...]:
    for directory in (start, *start.parents):
        for name in FILE_NAMES:
            file = directory / name
            if file.is_file():
                return (file, *_overrides(file))
    return ()


def _overrides(file: Path) -> tuple[Path, ...]:
    for suffix in (".yaml", ".yml"):
        candidate = file.with_name(f"{file.stem}.override{suffix}")
        if candidate.is_file():
            return (candidate,)
    return ()


def _name_of(project: Project) -> str:
    """The last file that names the environment wins. A top-level key begins its line, and block
    scalars are indented; anything but a plain name is left to the real reader."""
    for file in reversed(project.files):
        text = file.read_text(errors="replace")
        lines = _NAME_LINE.findall(text)
        if not lines and not text.lstrip().startswith("{"):
            continue
        match = _PLAIN_NAME.match(lines[0].rstrip()) if len(lines) == 1 else None
        if match:
            return match[2]
        from vmorch.cli.spec import load

        return load(project).name
    return default_name(project.directory)
