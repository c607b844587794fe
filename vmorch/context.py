"""Reads a build context from the client's disk: which files go, and what their contents are.

Imports nothing heavy: the command line uses it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vmorch.errors import InvalidSpec, NotFound, SpecProblem, UsageError
from vmorch.model.context import ContextEntry, IgnoreRules, parse_ignore, sorted_entries

# (path, stat) -> digest. A caller may remember digests by inode, size and modification time.
Digest = Callable[[Path, os.stat_result], str]


@dataclass(frozen=True, slots=True)
class BuildContext:
    """A directory as it is now. `files` leads from a digest to a file with that content."""

    entries: tuple[ContextEntry, ...]
    files: dict[str, Path]


def read_context(
    directory: Path, *, dockerfile: Path | None = None, digest: Digest | None = None
) -> BuildContext:
    """Walk and hash `directory`, leaving out what its `.dockerignore` says.

    `DOCKERFILE.dockerignore` beside the Dockerfile wins over the context's own, as with Docker.

    Raises:
        NotFound: there is no such directory. UsageError: it holds something that cannot be sent.
        InvalidSpec: the ignore file has a malformed pattern.
    """
    if not directory.is_dir():
        raise NotFound(
            f"The build context {directory} is not a directory.",
            hint="'build:' names the directory that holds the Dockerfile and its files.",
        )
    rules = read_ignore(directory, dockerfile=dockerfile)
    entries: list[ContextEntry] = []
    files: dict[str, Path] = {}
    for relative, path, status in _walk(directory, rules):
        entry = _entry(relative, path, status, digest or _hash)
        entries.append(entry)
        if entry.kind == "file":
            files.setdefault(entry.digest, path)
    return BuildContext(sorted_entries(entries), files)


def read_ignore(directory: Path, *, dockerfile: Path | None = None) -> IgnoreRules:
    """The rules for a context; none when it has no ignore file."""
    candidates = [directory / ".dockerignore"]
    if dockerfile is not None:
        candidates.insert(0, dockerfile.with_name(dockerfile.name + ".dockerignore"))
    for candidate in candidates:
        if not candidate.is_file():
            continue
        try:
            return parse_ignore(candidate.read_text("utf-8").splitlines())
        except OSError as error:
            raise _unreadable(candidate, error) from error
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{candidate} is not UTF-8 text.", hint="Save it as UTF-8 and build again."
            ) from error
        except ValueError as error:
            problem = SpecProblem(str(candidate), 0, 0, "", str(error))
            raise InvalidSpec([problem], hint="Correct the pattern.") from error
    return IgnoreRules()


def _walk(directory: Path, rules: IgnoreRules) -> Iterator[tuple[str, Path, os.stat_result]]:
    """What is not ignored, each directory before its contents. An ignored directory appears
    when something below it was taken back in."""
    pending: list[tuple[str, Path, os.stat_result]] = []

    def visit(folder: Path, prefix: str) -> Iterator[tuple[str, Path, os.stat_result]]:
        for item in _listed(folder):
            relative = prefix + item.name
            status = item.stat(follow_symlinks=False)
            is_directory = stat.S_ISDIR(status.st_mode)
            here = (relative, Path(item.path), status)
            ignored = rules.ignores(relative)
            if not ignored:
                _refuse_bytes(relative, "name")
                yield from pending
                pending.clear()
                yield here
            elif not is_directory or not rules.may_reinclude:
                continue
            else:
                pending.append(here)
            if is_directory:
                yield from visit(Path(item.path), relative + "/")
            if pending and pending[-1] is here:
                pending.pop()

    yield from visit(directory, "")


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            return sorted(listing, key=lambda item: item.name)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _refuse_bytes(text: str, what: str) -> None:
    """Names and targets travel as JSON, which is text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{text!a} of the build context has a {what} that is not UTF-8 and cannot be sent.",
            hint="Rename it or leave it out with a line in .dockerignore.",
        ) from error


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{path} of the build context cannot be read: {error.strerror}.",
        hint="Make it readable or leave it out with a line in .dockerignore.",
    )


def _entry(relative: str, path: Path, status: os.stat_result, digest: Digest) -> ContextEntry:
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return ContextEntry(path=relative, kind="directory", mode=mode)
    if stat.S_ISLNK(status.st_mode):
        target = str(path.readlink())
        _refuse_bytes(target, "target")
        return ContextEntry(path=relative, kind="symlink", mode=0o777, target=target)
    if stat.S_ISREG(status.st_mode):
        content = digest(path, status)
        size = status.st_size
        return ContextEntry(path=relative, kind="file", mode=mode, digest=content, size=size)
    raise UsageError(
        f"{path} is neither a file, a directory nor a symbolic link and cannot be sent.",
        hint="Leave it out with a line in .dockerignore.",
    )


def _hash(path: Path, status: os.stat_result) -> str:
    try:
        with path.open("rb") as stream:
            return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error
