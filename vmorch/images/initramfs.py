"""The initramfs of our bases: a static busybox, a script, and just the modules that lead to the
root disk. Built here and not by initramfs-tools: it is a tenth of the size and of the time."""

from __future__ import annotations

import lzma
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vmorch.errors import BuildFailed

_MAGIC = "070701"
_TRAILER = "TRAILER!!!"
_DIRECTORIES = ("bin", "dev", "modules", "proc", "root", "run", "sys")


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of the archive; `mode` with its file type, `device` (major, minor) for nodes."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def archive(entries: Iterable[Entry]) -> bytes:
    """A cpio archive in the "new ASCII" form (Linux's buffer-format.rst), the same for the same
    entries: owners are root and times are 0."""
    parts: list[bytes] = []
    for number, entry in enumerate((*entries, Entry(_TRAILER, 0)), start=1):
        name = entry.name.encode() + b"\0"
        fields = (
            *(number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0),
            *(*entry.device, len(name), 0),
        )
        header = (_MAGIC + "".join(f"{field:08X}" for field in fields)).encode() + name
        parts += [_padded(header), _padded(entry.content)]
    return b"".join(parts)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


class Modules:
    """The modules below one `lib/modules/VERSION`, after depmod has looked at them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._needs: dict[str, list[str]] = {}
        self._paths: dict[str, str] = {}
        for line in (directory / "modules.dep").read_text().splitlines():
            path, _, needs = line.partition(":")
            self._paths[_name(path)] = path
            self._needs[_name(path)] = [_name(need) for need in needs.split()]
        builtin = (directory / "modules.builtin").read_text().splitlines()
        self._builtin = {_name(path) for path in builtin}

    def in_order(self, names: Sequence[str]) -> list[str]:
        """Paths, relative to the directory, of `names` and all that they need, in an order in
        which they load. What is built into the kernel is left out.

        Raises:
            BuildFailed: the kernel has no such module.
        """
        order: dict[str, None] = {}
        for name in names:
            self._add(name.replace("-", "_"), order)
        return [self._paths[name] for name in order]

    def _add(self, name: str, order: dict[str, None]) -> None:
        if name in order or name in self._builtin:
            return
        if name not in self._paths:
            raise BuildFailed(
                f"The kernel in {self._directory.name} has no module {name}.",
                hint="Correct 'boot.modules' of the base's definition.",
            )
        for need in self._needs[name]:
            self._add(need, order)
        order[name] = None

    def content(self, path: str) -> bytes:
        """A module as insmod takes it."""
        data = (self._directory / path).read_bytes()
        return lzma.decompress(data) if path.endswith(".xz") else data


def _name(path: str) -> str:
    return PurePosixPath(path).name.split(".ko")[0].replace("-", "_")


def build_initramfs(
    *, busybox: bytes, init: bytes, modules: Modules, names: Sequence[str]
) -> bytes:
    """The initramfs. Uncompressed: QEMU hands it over in one piece, and unpacking the few
    megabytes costs an emulated processor more than reading them."""
    paths = modules.in_order(names)
    files = {PurePosixPath(path).name.removesuffix(".xz"): modules.content(path) for path in paths}
    order = "".join(f"{name}\n" for name in files).encode()
    return archive(
        (
            *(Entry(name, stat.S_IFDIR | 0o755) for name in _DIRECTORIES),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            Entry("bin/busybox", stat.S_IFREG | 0o755, busybox),
            Entry("init", stat.S_IFREG | 0o755, init),
            Entry("modules/order", stat.S_IFREG | 0o644, order),
            *(Entry(f"modules/{name}", stat.S_IFREG | 0o644, data) for name, data in files.items()),
        )
    )
