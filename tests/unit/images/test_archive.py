"""ADD of an archive that is damaged, wherever it is."""

from __future__ import annotations

import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from vmorch.images.worker.archive import unpack
from vmorch.images.worker.tree import CopyFailed

KINDS = ["w", "w:gz", "w:bz2", "w:xz"]
COMPRESSED = KINDS[1:]


def made(tmp_path: Path, kind: str, size: int = 100_000) -> Path:
    place = tmp_path / "archive"
    content = random.Random(1).randbytes(size)
    with tarfile.open(place, kind) as archive:
        member = tarfile.TarInfo("dir/file")
        member.size = size
        archive.addfile(member, io.BytesIO(content))
    return place


def unpacked(place: Path, target: Path) -> None:
    target.mkdir()
    unpack(os.open(place, os.O_RDONLY), str(target), None)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_ones_are_unpacked(tmp_path: Path, kind: str) -> None:
    unpacked(made(tmp_path, kind), tmp_path / "out")
    assert (tmp_path / "out/dir/file").stat().st_size == 100_000


@pytest.mark.parametrize("kind", COMPRESSED)
@pytest.mark.parametrize("where", [0.1, 0.3, 0.5, 0.9])
def test_a_flipped_bit_is_seen(tmp_path: Path, kind: str, where: float) -> None:
    place = made(tmp_path, kind)
    data = bytearray(place.read_bytes())
    data[int(len(data) * where)] ^= 0x10
    place.write_bytes(data)
    with pytest.raises(CopyFailed, match="archive is damaged"):
        unpacked(place, tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_one_is_seen(tmp_path: Path, kind: str) -> None:
    place = made(tmp_path, kind)
    os.truncate(place, place.stat().st_size // 2)
    with pytest.raises(CopyFailed, match="archive is damaged"):
        unpacked(place, tmp_path / "out")


@pytest.mark.parametrize("kind", COMPRESSED)
def test_a_wrong_sum_at_the_very_end_is_seen(tmp_path: Path, kind: str) -> None:
    place = made(tmp_path, kind)
    data = bytearray(place.read_bytes())
    data[-5] ^= 0x10
    place.write_bytes(data)
    with pytest.raises(CopyFailed, match="archive is damaged"):
        unpacked(place, tmp_path / "out")


def test_what_the_disk_says_is_not_blamed_on_the_archive(tmp_path: Path) -> None:
    place = made(tmp_path, "w:gz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/dir").write_text("a file")
    with pytest.raises(OSError, match="dir"):
        unpack(os.open(place, os.O_RDONLY), str(tmp_path / "out"), None)
