"""Partition tables and the heads of file systems: which partition holds the root, without guessing.

Pure, but for reading. Sources: the UEFI Specification (GPT), the Discoverable Partitions
Specification (types), Linux's Documentation/filesystems (super blocks).
"""

from __future__ import annotations

import binascii
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

SECTOR = 512
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
BOOT = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
ROOT = {
    "x86_64": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "aarch64": "b921b045-1df0-41c3-af44-4c6f280d3fae",
}
_MBR_LINUX = 0x83
_MBR_PROTECTIVE = 0xEE
_ROOT_LABELS = {"root", "rootfs", "cloudimg-rootfs", "/", "linux-root"}
_MOUNTABLE = {"ext4", "xfs"}


class BadDisk(Exception):
    """The disk cannot be used; the text is for the user."""


@dataclass(frozen=True, slots=True)
class FileSystem:
    kind: str
    label: str
    uuid: str
    size: int


@dataclass(frozen=True, slots=True)
class Partition:
    """`start` and `length` in bytes; number 0 is the whole disk without a table. `type` is a
    GUID, LINUX for what an MBR calls so, "" for anything else of it."""

    number: int
    start: int
    length: int
    type: str
    name: str
    system: FileSystem | None

    @property
    def description(self) -> str:
        kind = self.system.kind if self.system else "no file system that is known"
        label = self.system.label if self.system else ""
        named = " ".join(f"'{word}'" for word in (self.name, label) if word)
        return f"{self.number}: {kind} {named}".rstrip()


def partitions(disk: BinaryIO, size: int) -> list[Partition]:
    """All partitions; a disk that is one file system is its only one.

    Raises:
        BadDisk: there is neither, or the disk ends before they do.
    """
    whole = file_system(disk, 0)
    if whole is not None:
        if whole.size > size:
            raise BadDisk(
                f"its file system has {whole.size} bytes and the disk {size}: it is cut off"
            )
        return [Partition(0, 0, size, "", "", whole)]
    rows = _gpt(disk, size)
    rows = _mbr(disk) if rows is None else rows
    if not rows:
        raise BadDisk("it has neither a partition table nor a file system: it is no disk image")
    for number, start, length, _, _ in rows:
        if start + length > size:
            raise BadDisk(f"partition {number} ends behind the end of the disk: it is cut off")
    return [Partition(*row, file_system(disk, row[1])) for row in rows]


_Row = tuple[int, int, int, str, str]


def _gpt(disk: BinaryIO, size: int) -> list[_Row] | None:
    head = _read(disk, SECTOR, 92)
    if head[:8] != b"EFI PART":
        return None
    length, crc = struct.unpack("<II", head[12:20])
    if not 92 <= length <= SECTOR:
        raise BadDisk("its partition table is damaged")
    whole = _read(disk, SECTOR, length)
    if binascii.crc32(whole[:16] + bytes(4) + whole[20:]) != crc:
        raise BadDisk("its partition table is damaged")
    (backup,) = struct.unpack("<Q", head[32:40])
    if (backup + 1) * SECTOR > size:
        raise BadDisk("it ends before its partition table says: it is cut off")
    at, count, entry, entries_crc = struct.unpack("<QIII", head[72:92])
    if entry < 128 or count > 1024 or entry > 4096:
        raise BadDisk("its partition table is damaged")
    table = _read(disk, at * SECTOR, count * entry)
    if binascii.crc32(table) != entries_crc:
        raise BadDisk("its partition table is damaged")
    rows = []
    for number in range(count):
        row = table[number * entry : (number + 1) * entry]
        kind = str(uuid.UUID(bytes_le=row[:16]))
        if any(row[:16]):
            first, last = struct.unpack("<QQ", row[32:48])
            name = row[56:128].decode("utf-16-le", "replace").rstrip("\0")
            rows.append((number + 1, first * SECTOR, (last - first + 1) * SECTOR, kind, name))
    return rows


def _mbr(disk: BinaryIO) -> list[_Row]:
    """The four primary partitions."""
    head = _read(disk, 0, SECTOR)
    if head[510:512] != b"\x55\xaa":
        return []
    rows = []
    for number in range(4):
        row = head[446 + 16 * number : 462 + 16 * number]
        kind, (first, count) = row[4], struct.unpack("<II", row[8:16])
        if kind == _MBR_PROTECTIVE:
            raise BadDisk("its partition table is damaged")
        if kind and count:
            linux = LINUX if kind == _MBR_LINUX else ""
            rows.append((number + 1, first * SECTOR, count * SECTOR, linux, ""))
    return rows


def file_system(disk: BinaryIO, offset: int) -> FileSystem | None:
    """What lies there; None when it is nothing that Linux boots from."""
    head = _read(disk, offset, 2048)
    if head[1024 + 0x38 : 1024 + 0x3A] == b"\x53\xef":
        block = head[1024:]
        low, log = struct.unpack("<I", block[4:8])[0], struct.unpack("<I", block[24:28])[0]
        wide = struct.unpack("<I", block[0x60:0x64])[0] & 0x80
        high = struct.unpack("<I", block[0x150:0x154])[0] if wide else 0
        size = ((high << 32) + low) << (10 + min(log, 6))
        return FileSystem("ext4", _text(block[120:136]), _id(block[104:120]), size)
    if head[:4] == b"XFSB":
        block_size, blocks = struct.unpack(">IQ", head[4:16])
        return FileSystem("xfs", _text(head[108:120]), _id(head[32:48]), block_size * blocks)
    if _read(disk, offset + 65536 + 64, 8) == b"_BHRfS_M":
        return FileSystem("btrfs", "", "", 0)
    return None


def find_root(found: Sequence[Partition], machine: str, number: int | None) -> Partition:
    """The partition of the root file system: `number` when the user named one, else by type,
    else by label, else the only one that can be.

    Raises:
        BadDisk: none, or several; the text lists them.
    """
    if number is not None:
        named = [p for p in found if p.number == number]
        if not named:
            raise BadDisk(f"it has no partition {number}; {_listed(found)}")
        return _usable(named[0])
    typed = [p for p in found if p.type == ROOT.get(machine, "")]
    linux = typed or [p for p in found if p.system and p.type in {LINUX, ""}]
    if len(linux) > 1:
        linux = [p for p in linux if _is_labelled(p)] or linux
    if len(linux) != 1:
        many = "several partitions may hold" if linux else "no partition holds"
        raise BadDisk(f"{many} the root file system; {_listed(found)}")
    return _usable(linux[0])


def find_boot(found: Sequence[Partition], root: Partition) -> Partition | None:
    """A partition of its own for /boot."""
    others = [p for p in found if p is not root and p.system and p.system.kind in _MOUNTABLE]
    typed = [p for p in others if p.type == BOOT]
    named = [p for p in others if p.system and p.system.label.lower() == "boot"]
    return next(iter(typed or named), None)


def _is_labelled(partition: Partition) -> bool:
    labels = {partition.name.lower()}
    if partition.system is not None:
        labels.add(partition.system.label.lower())
    return bool(labels & _ROOT_LABELS)


def _usable(partition: Partition) -> Partition:
    kind = partition.system.kind if partition.system else ""
    if kind not in _MOUNTABLE:
        what = f"{kind}, which cannot be mounted here" if kind else "no file system that is known"
        raise BadDisk(f"its root partition {partition.number} has {what}; ext4 and xfs can be used")
    return partition


def _listed(found: Sequence[Partition]) -> str:
    return "its partitions are " + "; ".join(p.description for p in found)


def _read(disk: BinaryIO, offset: int, length: int) -> bytes:
    disk.seek(offset)
    return disk.read(length).ljust(length, b"\0")


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "replace")


def _id(data: bytes) -> str:
    return str(uuid.UUID(bytes=data))
