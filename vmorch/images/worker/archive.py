"""ADD of an archive: unpacks it inside the chroot."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vmorch.images.worker.tree import CopyFailed

if TYPE_CHECKING:
    import tarfile

_CHUNK = 1 << 20


def prepare() -> None:
    """Import what unpacking needs: inside the chroot there is no Python library."""
    import bz2  # noqa: F401
    import gzip  # noqa: F401
    import lzma  # noqa: F401
    import tarfile  # noqa: F401
    import zlib  # noqa: F401


def unpack(descriptor: int, destination: str, owner: tuple[int, int] | None) -> None:
    """Unpack a (compressed) tar into `destination`.

    Raises:
        CopyFailed: it is damaged, or a name in it leads upwards.
    """
    import lzma
    import tarfile
    import zlib

    try:
        with os.fdopen(descriptor, "rb") as stream, tarfile.open(fileobj=stream) as archive:
            # The chroot confines; Python's own filter would refuse what images need (absolute
            # symlinks, devices) and is not in every 3.11.
            unfiltered: Any = staticmethod(lambda member, path: member)
            archive.extraction_filter = unfiltered
            archive.extractall(destination, _members(archive, owner), numeric_owner=True)
            _read_to_the_end(archive)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise CopyFailed(f"the archive is damaged: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise  # no room, for instance; gzip and bz2 raise theirs without a number
        raise CopyFailed(f"the archive is damaged: {error}") from error


def _read_to_the_end(archive: tarfile.TarFile) -> None:
    """The sum over the content comes last, after all that a tar needs."""
    assert archive.fileobj is not None
    while archive.fileobj.read(_CHUNK):
        pass


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
