"""Volumes' disks by the real mke2fs and qemu-img, looked at by e2fsprogs."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from vmorch.errors import VmorchError
from vmorch.volumes.disks import QcowDisks

MIB = 1024**2
LABEL = "v0123456789abcde"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "volumes" / "shop" / "data@1.qcow2"


def ensure(path: Path, size_bytes: int, label: str = LABEL, *, made: bool = False) -> None:
    path.parent.parent.mkdir(exist_ok=True)
    asyncio.run(QcowDisks().ensure(path, size_bytes=size_bytes, label=label, made=made))


def size_of(path: Path) -> int:
    found = subprocess.check_output(["qemu-img", "info", "--output=json", path])
    return int(json.loads(found)["virtual-size"])


def superblock(path: Path, tmp_path: Path) -> str:
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, raw], check=True)
    subprocess.run(["e2fsck", "-fn", raw], check=True, capture_output=True)
    return subprocess.check_output(["dumpe2fs", "-h", raw], text=True, stderr=subprocess.DEVNULL)


def test_a_volume_is_a_small_sound_file_system_with_its_label(path: Path, tmp_path: Path) -> None:
    ensure(path, 512 * MIB)
    assert size_of(path) == 512 * MIB
    assert path.stat().st_blocks * 512 < 16 * MIB
    assert path.stat().st_mode & 0o777 == 0o600
    told = superblock(path, tmp_path)
    assert f"Filesystem volume name:   {LABEL}\n" in told
    assert list(path.parent.iterdir()) == [path]


def test_it_grows_and_never_shrinks_and_stays_what_it_is(path: Path, tmp_path: Path) -> None:
    ensure(path, 64 * MIB)
    first = superblock(path, tmp_path)
    ensure(path, 128 * MIB, label="another")
    assert size_of(path) == 128 * MIB
    ensure(path, 32 * MIB)
    assert size_of(path) == 128 * MIB
    assert superblock(path, tmp_path) == first


def test_one_that_was_cut_off_is_made_anew(path: Path) -> None:
    path.parent.mkdir(parents=True)
    for half in ("data@1.raw.new", "data@1.qcow2.new"):
        (path.parent / half).write_text("half")
    ensure(path, 64 * MIB)
    assert list(path.parent.iterdir()) == [path]


def test_one_that_is_lost_is_missed_and_never_made_anew(path: Path) -> None:
    ensure(path, 64 * MIB)
    ensure(path, 128 * MIB, made=True)
    assert size_of(path) == 128 * MIB
    path.unlink()
    with pytest.raises(VmorchError, match=f"gone: {path}"):
        ensure(path, 128 * MIB, made=True)
    assert not path.exists()


def test_what_is_no_volume_is_not_touched(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("something of somebody's")
    with pytest.raises(VmorchError, match="no disk of a volume"):
        ensure(path, 64 * MIB)
    assert path.read_text() == "something of somebody's"


def test_removing_takes_the_directory_with_the_last(path: Path) -> None:
    other = path.with_name("other.qcow2")
    ensure(path, 64 * MIB)
    ensure(other, 64 * MIB)
    for gone in (path, path, other):
        asyncio.run(QcowDisks().remove(gone))
    assert not path.parent.exists()
