"""ADD of an archive: unpacks it inside the chroot."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vmorch.images.worker.tree import CopyFailed

if TYPE_CHECKING:
    import tarfile


def prepare() -> None:
    """Import what unpacking needs: inside the chroot there is no Python library."""
    import bz2  # noqa: F401
    import gzip  # noqa: F401
    import lzma  # noqa: F401
    import tarfile  # noqa: F401


def unpack(descriptor: int, destination: str, owner: tuple[int, int] | None) -> None:
    """Unpack a (compressed) tar into `destination`.

    Raises:
        CopyFailed: it is damaged, or a name in it leads upwards.
    """
    import tarfile

    try:
        with os.fdopen(descriptor, "rb") as stream, tarfile.open(fileobj=stream) as archive:
            # The chroot confines; Python's own filter would refuse what images need (absolute
            # symlinks, devices) and is not in every 3.11.
            unfiltered: Any = staticmethod(lambda member, path: member)
            archive.extraction_filter = unfiltered
            archive.extractall(destination, _members(archive, owner), numeric_owner=True)
    except (tarfile.TarError, EOFError) as error:
        raise CopyFailed(f"the archive is damaged: {error}") from error


def _members(archive: tarfile.TarFile, owner: tuple[int, int] | None) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        member.name = _inside(member.name)
        if member.islnk():
            member.linkname = _inside(member.linkname)
        if owner is not None:
            member.uid, member.gid = owner
        yield member


def _inside(name: str) -> str:
    path = posixpath.normpath(name.lstrip("/") or ".")
    if path == ".." or path.startswith("../"):
        raise CopyFailed(f"'{name}' in the archive leads out of it")
    return path
