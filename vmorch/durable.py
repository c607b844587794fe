"""Files that appear whole or not at all, and survive a power cut once they are there."""

from __future__ import annotations

import os
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
