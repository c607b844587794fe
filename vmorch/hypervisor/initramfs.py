"""A kernel's smallest world: busybox and one script, as a cpio archive in the "newc" form.

The form is the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from pathlib import Path

_TRAILER = "TRAILER!!!"


def initramfs(*, busybox: bytes, init: str) -> bytes:
    """An archive whose /init is the shell script `init`, run by the static `busybox`."""
    entries = [
        _entry("dev", stat.S_IFDIR | 0o755),
        _entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        _entry("bin", stat.S_IFDIR | 0o755),
        _entry("bin/busybox", stat.S_IFREG | 0o755, content=busybox),
        _entry("init", stat.S_IFREG | 0o755, content=f"#!/bin/busybox sh\n{init}".encode()),
        _entry(_TRAILER, 0),
    ]
    return b"".join(entries)


def find_busybox(candidates: tuple[Path, ...] = (Path("/bin/busybox"),)) -> Path | None:
    """The host's busybox, if it is a static one (no interpreter named in its ELF header)."""
    for path in candidates:
        if path.is_file() and b"ld-linux" not in path.read_bytes()[:4096]:
            return path
    return None


def _entry(
    name: str, mode: int, *, content: bytes = b"", device: tuple[int, int] = (0, 0)
) -> bytes:
    encoded = name.encode() + b"\0"
    # ino, mode, uid, gid, nlink, mtime, size, device of the file system, device, name, checksum
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
    header = b"070701" + b"".join(b"%08x" % value for value in fields)
    return _padded(header + encoded) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
