"""The store's small files, and the names of contents."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from vmorch import durable


def write(path: Path, text: str, *, temporary: Path, mode: int = 0o644) -> None:
    """Replace `path` by `text`. `temporary` is a directory on the same file system."""
    descriptor, name = tempfile.mkstemp(dir=temporary)
    near = Path(name)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        near.chmod(mode)
        durable.publish(near, path)
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
