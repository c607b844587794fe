"""Which partition holds the root: by type and label, never by guess; and cut off disks."""

from __future__ import annotations

import binascii
import io
import struct
import uuid
from pathlib import Path

import pytest

from vmorch.errors import UsageError
from vmorch.images import qcow2
from vmorch.images.worker.partitions import (
    BOOT,
    LINUX,
    ROOT,
    BadDisk,
    find_boot,
    find_root,
    partitions,
)

ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
MIB = 1 << 20
SIZE = 64 * MIB
X86 = ROOT["x86_64"]


def ext4(label: str = "", blocks: int = 1024) -> bytes:
    block = bytearray(1024)
    block[4:8], block[24:28] = struct.pack("<I", blocks), struct.pack("<I", 2)
    block[0x38:0x3A] = b"\x53\xef"
    block[104:120], block[120:136] = uuid.UUID(int=7).bytes, label.encode().ljust(16, b"\0")
    return bytes(1024) + bytes(block)


def xfs() -> bytes:
    return (b"XFSB" + struct.pack(">IQ", 4096, 256)).ljust(2048, b"\0")


def gpt(*rows: tuple[str, str, bytes]) -> bytearray:
    """(type, name, head of the file system): one partition of 8 MiB each, from 1 MiB on."""
    disk = bytearray(SIZE)
    entries = bytearray(128 * 128)
    for number, (kind, name, head) in enumerate(rows):
        first = (1 + 8 * number) * MIB // 512
        entry = uuid.UUID(kind).bytes_le + uuid.uuid4().bytes
        entry += struct.pack("<QQQ", first, first + 8 * MIB // 512 - 1, 0)
        entries[128 * number : 128 * number + 128] = (entry + name.encode("utf-16-le")).ljust(
            128, b"\0"
        )
        disk[first * 512 : first * 512 + len(head)] = head
    disk[1024 : 1024 + len(entries)] = entries
    header = bytearray(b"EFI PART" + struct.pack("<III", 0x10000, 92, 0) + bytes(72))
    header[24:48] = struct.pack("<QQQ", 1, SIZE // 512 - 1, 34)
    header[72:92] = struct.pack("<QIII", 2, 128, 128, binascii.crc32(entries))
    header[16:20] = struct.pack("<I", binascii.crc32(bytes(header[:92])))
    disk[512:604] = header[:92]
    return disk


def root_of(disk: bytes, number: int | None = None) -> int:
    return find_root(partitions(io.BytesIO(disk), len(disk)), "x86_64", number).number


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(ESP, "", b""), (X86, "", ext4())], 2),
        ([(LINUX, "rootfs", ext4()), (X86, "", ext4("data"))], 2),  # the type says more
        ([(LINUX, "data", ext4()), (LINUX, "", ext4("cloudimg-rootfs"))], 2),
        ([(LINUX, "root", ext4()), (LINUX, "", ext4())], 1),
        ([(ESP, "", b""), (LINUX, "", ext4())], 2),
        ([(ESP, "", b""), (BOOT, "", ext4()), (LINUX, "", xfs())], 3),
    ],
)
def test_the_root_is_found(rows: list[tuple[str, str, bytes]], expected: int) -> None:
    assert root_of(gpt(*rows)) == expected


@pytest.mark.parametrize(
    ("rows", "fragment"),
    [
        ([(LINUX, "a", ext4("x")), (LINUX, "b", ext4("y"))], "several .* 1: ext4 'a' 'x'; 2: ext4"),
        ([(X86, "", ext4()), (X86, "", ext4())], "several"),
        ([(LINUX, "root", ext4()), (LINUX, "root", ext4())], "several"),
        ([(ESP, "", b"")], "no partition holds"),
        ([(X86, "", b"junk")], "no file system that is known"),
    ],
)
def test_nothing_is_guessed(rows: list[tuple[str, str, bytes]], fragment: str) -> None:
    with pytest.raises(BadDisk, match=fragment):
        root_of(gpt(*rows))


def test_the_user_may_say_which() -> None:
    disk = gpt((LINUX, "a", ext4()), (LINUX, "b", ext4()))
    assert root_of(disk, 2) == 2
    with pytest.raises(BadDisk, match="no partition 5"):
        root_of(disk, 5)


def test_a_boot_partition() -> None:
    found = partitions(io.BytesIO(gpt((LINUX, "", ext4("BOOT")), (X86, "", ext4()))), SIZE)
    boot = find_boot(found, find_root(found, "x86_64", None))
    assert boot is not None
    assert boot.number == 1


def test_a_disk_without_partitions_and_one_with_an_old_table() -> None:
    whole = bytearray(SIZE)
    whole[: len(ext4())] = ext4()
    assert root_of(whole) == 0
    old = bytearray(SIZE)
    old[446:462] = bytes([0x80, 0, 0, 0, 0x83, 0, 0, 0]) + struct.pack("<II", 2048, 16384)
    old[462:478] = bytes([0, 0, 0, 0, 0x82, 0, 0, 0]) + struct.pack("<II", 20000, 1000)
    old[510:512] = b"\x55\xaa"
    old[MIB : MIB + len(ext4())] = ext4()
    assert root_of(old) == 1


@pytest.mark.parametrize("harm", ["short", "header", "entries", "nothing", "fs", "empty"])
def test_damaged_and_cut_off_disks(harm: str) -> None:
    disk = gpt((X86, "", ext4()))
    match harm:
        case "short":
            disk = disk[: SIZE // 2]
        case "header":
            disk[530] ^= 1
        case "entries":
            disk[1030] ^= 1
        case "nothing":
            disk = bytearray(b"hello world" * 1000)
        case "fs":
            disk = bytearray(ext4(blocks=100_000).ljust(MIB, b"\0"))
        case "empty":
            disk = bytearray()
    with pytest.raises(BadDisk, match=r"cut off|damaged|no disk image"):
        root_of(bytes(disk))


def test_disks_that_stand_on_others_are_refused(tmp_path: Path) -> None:
    overlay = tmp_path / "o"
    qcow2.create_overlay(overlay, backing="/etc/shadow", size_bytes=MIB)
    with pytest.raises(UsageError, match="stands on another"):
        qcow2.kind_of(overlay)
    external = bytearray(overlay.read_bytes())
    external[8:20] = bytes(12)
    external[79] |= 4
    overlay.write_bytes(external)
    with pytest.raises(UsageError, match="stands on another"):
        qcow2.kind_of(overlay)
    external[79] = 2  # marked corrupt
    overlay.write_bytes(external)
    with pytest.raises(UsageError, match="damaged"):
        qcow2.kind_of(overlay)
    raw = tmp_path / "raw"
    raw.write_bytes(b"junk" + bytes(100))
    assert qcow2.kind_of(raw) == "raw"
