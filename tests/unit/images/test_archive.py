"""ADD of an archive: what is one, what is damaged, and what unpacking must not touch."""

from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest

from vmorch.images.archives import is_archive
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


def packed(place: Path, *members: tuple[str, dict[str, Any], bytes]) -> Path:
    with tarfile.open(place, "w") as archive:
        for name, attributes, content in members:
            info = tarfile.TarInfo(name)
            for key, value in attributes.items():
                setattr(info, key, value)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return place


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_an_archive_is_told_by_its_head(tmp_path: Path, kind: str) -> None:
    place = made(tmp_path, kind, size=3_000_000)
    assert is_archive(place)
    whole = place.read_bytes()
    for length in (0, 1, 6, 18, 60, 100):
        place.write_bytes(whole[:length])
        assert not is_archive(place)
    for at in range(200):
        changed = bytearray(whole[:2000])
        changed[at] ^= 0x10
        place.write_bytes(changed)
        is_archive(place)  # either, but never an exception


def test_what_is_none(tmp_path: Path) -> None:
    place = tmp_path / "x.tar.gz"
    for content in (bytes(10240), gzip.compress(bytes(10240)), b"BZh9", b"\xfd7zXZ\0", b"a" * 9999):
        place.write_bytes(content)
        assert not is_archive(place)


def test_a_header_that_is_longer_than_memory_is_not_read_to_tell_an_archive(tmp_path: Path) -> None:
    place = tmp_path / "bomb.tar"
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    place.write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    os.truncate(place, 1 << 40)  # in holes
    assert is_archive(place)


def test_files_replace_what_is_there_and_are_not_written_through_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("one", "two", "three"):
        (out / name).write_text("the image's")
    (out / "link").symlink_to("one")
    (out / "hard").hardlink_to(out / "two")
    (out / "lib").mkdir()
    (out / "alias").symlink_to("lib")
    place = packed(
        tmp_path / "a",
        ("link", {}, b"new"),
        ("hard", {}, b"new"),
        ("three", {"type": tarfile.SYMTYPE, "linkname": "one"}, b""),
        ("again", {"type": tarfile.LNKTYPE, "linkname": "hard"}, b""),
        ("alias", {"type": tarfile.DIRTYPE, "mode": 0o755}, b""),
        ("alias/file", {}, b"new"),
    )
    for _ in range(2):  # over itself, too
        unpack(os.open(place, os.O_RDONLY), str(out), None)
    assert (out / "one").read_text() == (out / "two").read_text() == "the image's"
    assert not (out / "link").is_symlink()
    assert (out / "link").read_text() == (out / "again").read_text() == "new"
    assert str((out / "three").readlink()) == "one"
    assert (out / "lib/file").read_text() == "new"
    assert (out / "alias").is_symlink()


def test_the_directory_that_it_is_unpacked_into_stays_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o755)
    before = out.stat()
    attributes = {"type": tarfile.DIRTYPE, "mode": 0o700, "uid": 1000, "gid": 1000}
    for name in (".", "./", "/", "a/.."):
        place = packed(tmp_path / "a", (name, attributes, b""))
        unpack(os.open(place, os.O_RDONLY), str(out), None)
    assert (out.stat().st_mode, out.stat().st_uid) == (before.st_mode, before.st_uid)


@pytest.mark.parametrize(
    ("members", "fragment"),
    [
        ([("dir", {}, b"x")], "is a directory"),
        ([("a", {"type": tarfile.LNKTYPE, "linkname": "none"}, b"")], "damaged"),
        ([("a", {"type": tarfile.LNKTYPE, "linkname": "a"}, b"")], "damaged"),
        ([("a", {"pax_headers": {"path": "a\0b"}}, b"x")], "damaged"),
    ],
)
def test_what_cannot_be_unpacked_is_said_in_words(
    tmp_path: Path, members: list[tuple[str, dict[str, Any], bytes]], fragment: str
) -> None:
    (tmp_path / "out/dir").mkdir(parents=True)
    place = packed(tmp_path / "a", *members)
    with pytest.raises(CopyFailed, match=fragment):
        unpack(os.open(place, os.O_RDONLY), str(tmp_path / "out"), None)
