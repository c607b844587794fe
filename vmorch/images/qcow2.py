"""The little of qcow2 that the store needs to know: the header, and making an overlay."""

from __future__ import annotations

import functools
import os
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vmorch.errors import UsageError, VmorchError

_MAGIC = b"QFI\xfb"
_CONVERT_SECONDS = 3600
_EXTERNAL_DATA = 1 << 2
_KNOWN_FEATURES = 1 << 0 | 1 << 3 | 1 << 4  # dirty, compression type, extended L2 entries


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


def kind_of(path: Path) -> str:
    """Whether a disk from outside is "qcow2" or "raw", by its first bytes: asking qemu-img would
    let a raw disk's content choose another format.

    Raises:
        UsageError: it is a qcow2 file that stands on other files, or is encrypted or damaged.
    """
    with path.open("rb") as stream:
        head = stream.read(80)
    if head[:4] != _MAGIC:
        return "raw"
    header = read_header(path)
    (method,) = struct.unpack(">I", head[32:36])
    (features,) = struct.unpack(">Q", head[72:80]) if len(head) == 80 else (0,)
    if header is None or (header.backing or features & _EXTERNAL_DATA):
        raise UsageError(
            "The disk is a qcow2 file that stands on another file.",
            hint="Make it whole first: qemu-img convert -O qcow2 OLD NEW.",
        )
    if method or features & ~(_EXTERNAL_DATA | _KNOWN_FEATURES):
        raise UsageError("The disk is a qcow2 file that is encrypted, damaged or of a newer kind.")
    return "qcow2"


def convert(source: Path, target: Path, *, kind: str) -> None:
    """A whole copy as qcow2, zeros left out.

    Raises:
        UsageError: the source is damaged or cut off. VmorchError: there is no room.
    """
    if kind == "qcow2":
        checked = _qemu_img("check", "-q", "-f", kind, str(source))
        if checked.returncode not in {0, 3}:  # 3: clusters that are used by nothing
            said = " ".join(checked.stderr.decode(errors="replace").split())[-200:]
            raise UsageError(f"The disk is a damaged qcow2 file: {said}.")
    done = _qemu_img("convert", "-f", kind, "-O", "qcow2", str(source), str(target))
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise VmorchError(f"The disk cannot be converted: {said}.", hint="Look for room.")


def flatten(top: Path, base: Path, target: Path) -> None:
    """One overlay over `base` that holds what all overlays from it to `top` hold together. Its
    header names the base's file alone, as all layers' do.

    Raises:
        VmorchError: there is no room.
    """
    header = read_header(top)
    assert header is not None
    # Not `convert -B`: it takes what the top file alone holds. Rebasing compares, and copies what
    # was written anywhere between.
    shutil.copyfile(top, target)
    _rebase(target, top.with_name(header.backing), compare=False)
    _rebase(target, base, compare=True)
    _rebase(target, Path(base.name), compare=False)


def _rebase(disk: Path, backing: Path, *, compare: bool) -> None:
    """Put `disk` on another file; with `compare` so that it reads as before."""
    how = () if compare else ("-u",)
    done = _qemu_img("rebase", *how, "-f", "qcow2", "-F", "qcow2", "-b", str(backing), str(disk))
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise VmorchError(f"Layers cannot be merged: {said}.", hint="Look for room on the disk.")


def _qemu_img(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["qemu-img", *arguments], capture_output=True, timeout=_CONVERT_SECONDS
        )
    except FileNotFoundError as error:
        raise VmorchError(
            "qemu-img is not installed.", hint="Install the package qemu-utils."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise VmorchError(f"qemu-img took more than {_CONVERT_SECONDS} s.") from error


def create_overlay(path: Path, *, backing: str, size_bytes: int) -> None:
    """An empty overlay. `backing` goes into the header as it is and is not opened.

    Raises:
        VmorchError: qemu-img is missing, or there is no room.
    """
    name = os.fsencode(backing)
    # Empty overlays of one size differ in that name alone. qemu-img takes as long to start as
    # the rest of a small layer takes.
    template = _template(len(name), size_bytes)
    path.write_bytes(template.replace(b"x" * len(name), name, 1))


@functools.lru_cache(maxsize=64)
def _template(length: int, size_bytes: int) -> bytes:
    with tempfile.TemporaryDirectory(prefix="vmorch-") as near:
        path = Path(near) / "template"
        arguments = ("create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "x" * length)
        made = _qemu_img(*arguments, str(path), str(size_bytes))
        if made.returncode:
            said = made.stderr.decode(errors="replace").strip()
            raise VmorchError(
                f"qemu-img cannot make an overlay: {said}", hint="Look for room on the disk."
            )
        return path.read_bytes()
