"""ADD of an archive: unpacks it inside the chroot."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmorch.images.worker.tree import CopyFailed

if TYPE_CHECKING:
    import tarfile

_CHUNK = 1 << 20
# What tarfile raises for links to nothing, names with zero bytes, and numbers beyond all bounds.
_ODD = (KeyError, ValueError, OverflowError, RecursionError)
_MEMORY_BYTES = 2 << 30


def prepare() -> None:
    """Import what unpacking needs: inside the chroot there is no Python library. And bound this
    process: an archive says itself how long its headers are, and how much xz is to remember."""
    import bz2  # noqa: F401
    import gzip  # noqa: F401
    import lzma  # noqa: F401
    import resource
    import tarfile  # noqa: F401
    import zlib  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def unpack(descriptor: int, destination: str, owner: tuple[int, int] | None) -> None:
    """Unpack a (compressed) tar into `destination`.

    Raises:
        CopyFailed: it is damaged, a name in it leads upwards, or where it has a file the image
            has a directory.
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
            members = _members(archive, destination, owner)
            archive.extractall(destination, members, numeric_owner=True)
            _read_to_the_end(archive)
    except MemoryError as error:
        raise CopyFailed("the archive asks for too much memory") from error
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, *_ODD) as error:
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


def _members(
    archive: tarfile.TarFile, destination: str, owner: tuple[int, int] | None
) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        member.name = _inside(member.name)
        if member.name == ".":
            continue  # the directory that it is unpacked into is not the archive's
        if member.islnk():
            member.linkname = _inside(member.linkname)
        if owner is not None:
            member.uid, member.gid = owner
        if not member.isdir() and member.linkname != member.name:
            _clear(posixpath.join(destination, member.name))
        yield member


def _clear(target: str) -> None:
    """Never write through what is there: a hard link or a symlink has another name too."""
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise CopyFailed(f"'{target}' in the image is a directory, in the archive it is none")
    Path(target).unlink()


def _inside(name: str) -> str:
    path = posixpath.normpath(name.lstrip("/") or ".")
    if path == ".." or path.startswith("../"):
        raise CopyFailed(f"'{name}' in the archive leads out of it")
    return path
