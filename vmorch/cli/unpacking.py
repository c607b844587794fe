"""Unpacks a tar stream of a guest, which is not trusted, below one directory of this host.

The Python of Debian 12 has no `tarfile.data_filter`. What makes this safe: names are relative and
without `..`; links are made when all files are there, so that nothing is written through one; of
links only those stay that lead to a place below the directory; devices and the like are left out.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from vmorch.errors import GuestError

_PERMISSIONS = 0o777  # neither setuid nor sticky


class Unpacking:
    """`name`, if any, replaces the first part of all names. `complain` is told what is left out,
    one line each."""

    def __init__(self, root: Path, name: str | None, complain: Callable[[str], None]) -> None:
        self._root = root.resolve()
        self._name = name
        self._complain = complain
        self._links: dict[Path, str] = {}
        self._modes: dict[Path, int] = {}

    def run(self, archive: tarfile.TarFile) -> None:
        """Raises GuestError (a name that leads outside), OSError."""
        for member in archive:
            self._take(archive, member)
        for path, target in self._links.items():
            self._link(path, target)
        self._drop_escaping()
        for path, mode in reversed(self._modes.items()):
            path.chmod(mode)

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = self._path(member.name)
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            self._modes[path] = member.mode & _PERMISSIONS | 0o700
        elif member.issym():
            self._links[path] = member.linkname
        elif member.islnk():
            shutil.copy2(self._path(member.linkname), _cleared(path), follow_symlinks=False)
        elif member.isreg():
            _write(archive, member, path)
        else:
            self._complain(f"{member.name} is left out: it is neither file, directory nor link.")

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if ".." in parts or "/" in parts[:1]:
            raise GuestError(
                f"The guest sent a file named '{name}', which leads outside of the target.",
                hint="What came before it is there. An honest tar does not do that.",
            )
        if self._name is not None:
            parts = (self._name, *parts[1:])
        return self._root.joinpath(*parts)

    def _link(self, path: Path, target: str) -> None:
        if path.is_dir() and not path.is_symlink():
            self._complain(f"{path.name} is left out: it came both as a link and as a directory.")
            return
        _cleared(path).symlink_to(target)

    def _drop_escaping(self) -> None:
        """A link may lead outside by way of another one; so look again after each that went."""
        left = [path for path in self._links if path.is_symlink()]
        while escaping := [path for path in left if not self._stays(path)]:
            for path in escaping:
                self._complain(
                    f"{path.name} is left out: it is a link to {self._links[path]}, outside of "
                    "what is copied."
                )
                path.unlink()
                left.remove(path)

    def _stays(self, path: Path) -> bool:
        try:
            return path.resolve().is_relative_to(self._root)
        except (OSError, RuntimeError):  # a circle
            return False


def _cleared(path: Path) -> Path:
    """The path with its directory made and nothing there yet that could be written through."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.is_file():
        path.unlink()
    return path


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = archive.extractfile(member)
    assert content is not None
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(_cleared(path), flags, 0o600), "wb") as file:
        shutil.copyfileobj(content, file, 1024 * 1024)
        os.fchmod(file.fileno(), member.mode & _PERMISSIONS)
    os.utime(path, (member.mtime, member.mtime))
