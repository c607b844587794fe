"""The little of qcow2 that the store needs to know: the header, and making an overlay."""

from __future__ import annotations

import os
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vmorch.errors import VmorchError

_MAGIC = b"QFI\xfb"
_CREATE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Header:
    """From QEMU's docs/interop/qcow2.txt. `backing` is empty for a base."""

    virtual_size_bytes: int
    backing: str


def read_header(path: Path) -> Header | None:
    """None when this is no qcow2 file."""
    with path.open("rb") as stream:
        head = stream.read(4096)
    if len(head) < 104 or head[:4] != _MAGIC:
        return None
    version, offset, length = struct.unpack(">IQI", head[4:20])
    (size,) = struct.unpack(">Q", head[24:32])
    if version not in {2, 3} or length > 1023 or offset + length > len(head):
        return None
    return Header(size, os.fsdecode(head[offset : offset + length]) if offset else "")


def create_overlay(path: Path, *, backing: str, size_bytes: int) -> None:
    """An empty overlay. `backing` goes into the header as it is and is not opened."""
    arguments = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2"]
    arguments += ["-b", backing, str(path), str(size_bytes)]
    try:
        subprocess.run(arguments, check=True, capture_output=True, timeout=_CREATE_SECONDS)
    except FileNotFoundError as error:
        raise VmorchError(
            "qemu-img is not installed.", hint="Install the package qemu-utils."
        ) from error
    except subprocess.SubprocessError as error:
        said = getattr(error, "stderr", b"") or b""
        raise VmorchError(
            f"No overlay could be made at {path}: {said.decode(errors='replace').strip()}",
            hint="Look for room on the disk and the permissions of the directory.",
        ) from error
