"""Volumes as qcow2 files, made without a guest: a sparse ext4, converted, moved into place."""

from __future__ import annotations

import asyncio
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vmorch import durable
from vmorch.errors import VmorchError
from vmorch.volumes.failures import lost, no_disk

_MAGIC = b"QFI\xfb"
_SECONDS = 300
_BLOCK_BYTES = 4096
# The file is fresh and so reads as zeros: nothing is left for the guest's kernel to wipe. No
# blocks are kept for root, as a service hardly ever is.
_EXTENDED = "nodiscard,assume_storage_prezeroed=1"
_EXT4 = ("-q", "-F", "-t", "ext4", "-b", str(_BLOCK_BYTES), "-m", "0", "-E", _EXTENDED)


class QcowDisks:
    """See `vmorch.volumes.protocol.VolumeDisks`."""

    async def ensure(self, path: Path, *, size_bytes: int, label: str, made: bool) -> None:
        await asyncio.to_thread(_ensure, path, _whole_blocks(size_bytes), label, made)

    async def remove(self, path: Path) -> None:
        await asyncio.to_thread(_remove, path)


def virtual_size(path: Path) -> int:
    """How large a guest sees the disk. Source: QEMU's docs/interop/qcow2.txt.

    Raises:
        VmorchError: it is no qcow2 file.
    """
    with path.open("rb") as stream:
        head = stream.read(32)
    if len(head) < 32 or head[:4] != _MAGIC:
        raise no_disk(path)
    (size,) = struct.unpack(">Q", head[24:32])
    return int(size)


def _ensure(path: Path, size_bytes: int, label: str, made: bool) -> None:
    try:
        if not path.exists():
            if made:
                raise lost(path)
            _make(path, size_bytes, label)
        elif virtual_size(path) < size_bytes:
            _run(["qemu-img", "resize", "-q", "-f", "qcow2", str(path), str(size_bytes)], path)
    except OSError as error:
        raise VmorchError(
            f"The volume {path} cannot be made: {error.strerror}.",
            hint="Look at the room and the permissions of the state directory.",
            retryable=True,
        ) from error


def _make(path: Path, size_bytes: int, label: str) -> None:
    """Only a whole volume ever bears its name: one that was cut off is made anew."""
    for directory in (path.parent.parent, path.parent):
        directory.mkdir(mode=0o711, exist_ok=True)
    raw, draft = path.with_suffix(".raw.new"), path.with_suffix(".qcow2.new")
    try:
        with raw.open("wb") as file:
            raw.chmod(0o600)
            file.truncate(size_bytes)
        _run(["mke2fs", *_EXT4, "-L", label, str(raw)], path)
        _run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(draft)], path)
        draft.chmod(0o600)
        durable.sync(draft)
        draft.replace(path)
        durable.sync(path.parent)
    finally:
        raw.unlink(missing_ok=True)
        draft.unlink(missing_ok=True)


def _run(arguments: Sequence[str], path: Path) -> None:
    try:
        subprocess.run(arguments, check=True, capture_output=True, timeout=_SECONDS)
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", b"") or b"").decode(errors="replace").strip()
        raise VmorchError(
            f"The volume {path} cannot be made: {arguments[0]}: {said or error}",
            hint="Look at the room of the state directory.",
            retryable=True,
        ) from error


def _remove(path: Path) -> None:
    """With what an interrupted start left beside it, and its directory when it was the last."""
    for suffix in (".raw.new", ".qcow2.new", ".qcow2"):
        path.with_suffix(suffix).unlink(missing_ok=True)
    try:
        path.parent.rmdir()
    except OSError:
        return


def _whole_blocks(size_bytes: int) -> int:
    return -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES
