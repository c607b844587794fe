"""Files that appear whole or not at all, and survive a power cut once they are there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def sync(path: Path) -> None:
    """fsync a file or a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, final: Path) -> None:
    """Sync and move into place; both are on one file system."""
    sync(temporary)
    temporary.replace(final)
    sync(final.parent)


def publish_directory(temporary: Path, final: Path) -> None:
    """The same for a directory of files; `final` is not there yet."""
    for path in temporary.iterdir():
        sync(path)
    sync(temporary)
    temporary.rename(final)
    sync(final.parent)


def write(path: Path, text: str, *, temporary: Path, mode: int = 0o644) -> None:
    """Replace `path` by `text`. `temporary` is a directory on the same file system."""
    descriptor, name = tempfile.mkstemp(dir=temporary)
    near = Path(name)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        near.chmod(mode)
        publish(near, path)
    finally:
        near.unlink(missing_ok=True)


def hexadecimal(digest: str) -> str:
    """The file name of "sha256:<hex>".

    Raises:
        ValueError: it is no such digest, and might be a path.
    """
    algorithm, _, name = digest.partition(":")
    if algorithm != "sha256" or len(name) != 64 or set(name) - set("0123456789abcdef"):
        raise ValueError(f"'{digest}' is no digest of the form sha256:<64 hexadecimal digits>")
    return name
