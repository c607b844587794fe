"""What a COPY places: files from blobs, or from another image's mounted root.

Reading from an image never leaves its root: the top of a source is opened with openat2's
RESOLVE_IN_ROOT, what is below it without following links.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from vmorch.images.worker import kernel
from vmorch.images.worker.job import Source
from vmorch.model.context import glob_expression, has_wildcards

_XATTRS = ("security.capability",)
_DEEPEST = 500  # directories within directories; a path ends at 4096 bytes anyway


class CopyFailed(Exception):
    """The user's COPY cannot be done; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Node:
    """A file to place. `descriptor` is an open file, to be closed by who takes the node."""

    path: str
    kind: str
    mode: int
    uid: int = 0
    gid: int = 0
    target: str = ""
    descriptor: int = -1
    modified_ns: int | None = None
    xattrs: tuple[tuple[str, bytes], ...] = ()


def blob_nodes(source: Source, host_root: int) -> Iterator[Node]:
    """`host_root` is a descriptor of the host's `/`, as we may be in another root already."""
    for item in source.items:
        descriptor = -1
        if item.kind == "file":
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(item.content.lstrip("/"), flags, dir_fd=host_root)
        yield Node(item.path, item.kind, item.mode, target=item.target, descriptor=descriptor)


def image_paths(root: int, pattern: str) -> list[str]:
    """The paths in an image that a source with wildcards names, sorted.

    Raises:
        CopyFailed: nothing is there.
    """
    paths = [""]
    for part in pattern.split("/"):
        if has_wildcards(part):
            expression = glob_expression(part)
            paths = [
                f"{path}/{name}"
                for path in paths
                for name in _listing(root, path)
                if expression.fullmatch(name)
            ]
        else:
            paths = [f"{path}/{part}" if part else path for path in paths]
    found = [path for path in paths if _exists(root, path or "/")]
    if not found:
        raise CopyFailed(f"'/{pattern}' is not in the image that --from names")
    return sorted(found)


def _listing(root: int, path: str) -> list[str]:
    try:
        descriptor = kernel.open_in_root(root, path or "/", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return []
    try:
        return sorted(item.name for item in os.scandir(descriptor))
    finally:
        os.close(descriptor)


def _exists(root: int, path: str) -> bool:
    try:
        os.close(kernel.open_in_root(root, path, os.O_PATH))
    except OSError:
        return False
    return True


def image_nodes(root: int, path: str) -> Iterator[Node]:
    """The file or the directory at `path` and all below it; the first node's path is ""."""
    top = kernel.open_in_root(root, path or "/", os.O_PATH)
    try:
        status = os.fstat(top)
        if stat.S_ISDIR(status.st_mode):
            yield _node("", status)
            yield from _below(kernel.open_in_root(root, path or "/", os.O_RDONLY), "")
        elif stat.S_ISREG(status.st_mode):
            yield _file("", kernel.open_in_root(root, path, os.O_RDONLY), status)
        else:
            raise CopyFailed(f"'{path}' is neither a file nor a directory")
    finally:
        os.close(top)


def _below(directory: int, prefix: str) -> Iterator[Node]:
    try:
        if prefix.count("/") > _DEEPEST:
            raise CopyFailed(f"more than {_DEEPEST} directories lie within each other")
        for name in sorted(item.name for item in os.scandir(directory)):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            path = prefix + name
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            if stat.S_ISDIR(status.st_mode):
                yield _node(path, status)
                yield from _below(os.open(name, flags, dir_fd=directory), path + "/")
            elif stat.S_ISREG(status.st_mode):
                yield _file(path, os.open(name, flags, dir_fd=directory), status)
            elif stat.S_ISLNK(status.st_mode):
                target = os.readlink(name, dir_fd=directory)
                yield Node(path, "symlink", 0o777, status.st_uid, status.st_gid, target)
            # Sockets, pipes and devices are state, not content.
    finally:
        os.close(directory)


def _node(path: str, status: os.stat_result) -> Node:
    return Node(path, "directory", stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def _file(path: str, descriptor: int, status: os.stat_result) -> Node:
    present = set(os.listxattr(descriptor))
    return Node(
        path,
        "file",
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        descriptor=descriptor,
        modified_ns=status.st_mtime_ns,
        xattrs=tuple((n, os.getxattr(descriptor, n)) for n in _XATTRS if n in present),
    )
