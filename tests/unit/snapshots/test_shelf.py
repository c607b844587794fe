"""Warm snapshots on the disk: whole or not there, and never in the way of forks that live."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from vmorch.effects import SystemClock
from vmorch.errors import VmorchError
from vmorch.snapshots.protocol import WarmSnapshot
from vmorch.snapshots.shelf import FAILURES, SnapshotShelf

KEY = "ab" * 32


@pytest.fixture
def shelf(tmp_path: Path) -> SnapshotShelf:
    return SnapshotShelf(tmp_path / "snapshots", SystemClock())


async def made(shelf: SnapshotShelf, ram: bytes = b"memory", key: str = KEY) -> WarmSnapshot:
    draft = await shelf.draft(key)
    (draft / "ram").write_bytes(ram)
    (draft / "disk.qcow2").write_bytes(b"disk")
    (draft / "disk.qcow2").chmod(0o440)
    (draft / "seed.iso").write_bytes(b"blank")
    return await shelf.publish(draft, key=key, service="web", image="sha256:1", with_service=True)


def present(shelf: SnapshotShelf) -> list[str]:
    return [snapshot.key for snapshot in asyncio.run(shelf.all())]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_holds_memory_for_root_alone_and_the_disk_as_it_was_shared(
    shelf: SnapshotShelf, tmp_path: Path
) -> None:
    snapshot = asyncio.run(made(shelf))
    assert (mode(snapshot.ram), mode(snapshot.disk)) == (0o600, 0o440)
    names = {path.name for path in (tmp_path / "snapshots" / KEY).iterdir()}
    assert names == {"ram", "disk.qcow2", "snapshot.json"}
    assert present(shelf) == [KEY]


@pytest.mark.parametrize("name", ["ram", "disk.qcow2", "snapshot.json"])
def test_one_that_is_cut_off_is_none_and_is_swept(shelf: SnapshotShelf, name: str) -> None:
    snapshot = asyncio.run(made(shelf))
    place = snapshot.ram.parent
    (place / name).chmod(0o600)
    os.truncate(place / name, 2)
    assert present(shelf) == []
    asyncio.run(shelf.sweep())
    assert not place.exists()


def test_a_draft_is_none_and_is_swept(shelf: SnapshotShelf, tmp_path: Path) -> None:
    asyncio.run(made(shelf, key="cd" * 32))
    draft = asyncio.run(shelf.draft(KEY))
    (draft / "ram").write_bytes(b"half")
    assert present(shelf) == ["cd" * 32]
    asyncio.run(shelf.sweep())
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["cd" * 32]


def test_a_second_one_leaves_the_first_as_it_is(shelf: SnapshotShelf) -> None:
    """Forks of the first may be on their way: RAM and disk must stay a pair."""
    asyncio.run(made(shelf, b"first"))
    second = asyncio.run(made(shelf, b"second"))
    assert second.ram.read_bytes() == b"first"
    assert present(shelf) == [KEY]


def test_a_fork_keeps_its_disk_when_the_snapshot_goes(shelf: SnapshotShelf, tmp_path: Path) -> None:
    snapshot = asyncio.run(made(shelf))
    lent = asyncio.run(shelf.lend(snapshot, tmp_path))
    lent.ram.unlink()
    freed = asyncio.run(shelf.remove(KEY))
    assert lent.disk.read_bytes() == b"disk"
    assert freed == snapshot.ram_bytes
    assert present(shelf) == []
    with pytest.raises(VmorchError, match="cannot be used"):
        asyncio.run(shelf.lend(snapshot, tmp_path))


def test_of_two_who_remove_it_one_finds_nothing(
    shelf: SnapshotShelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = asyncio.run(made(shelf))
    rename, freed = Path.rename, []

    def late(path: Path, target: Path) -> Path:
        monkeypatch.undo()
        freed.append(asyncio.run(shelf.remove(KEY)))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    assert asyncio.run(shelf.remove(KEY)) == 0
    assert freed == [snapshot.ram_bytes + snapshot.disk_bytes]
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_ram_and_disk_stay_a_pair_when_the_snapshot_is_made_anew(
    shelf: SnapshotShelf, tmp_path: Path
) -> None:
    first = asyncio.run(made(shelf, b"first"))
    lent = asyncio.run(shelf.lend(first, tmp_path))
    asyncio.run(shelf.remove(KEY))
    asyncio.run(made(shelf, b"second"))
    assert lent.ram.read_bytes() == b"first"
    assert mode(lent.ram) == 0o600
    with pytest.raises(VmorchError, match="made anew meanwhile"):
        asyncio.run(shelf.lend(first, tmp_path))


def test_only_a_row_of_failures_condemns(shelf: SnapshotShelf) -> None:
    said = [shelf.note_failure(KEY) for _ in range(FAILURES - 1)]
    shelf.note_success(KEY)
    said += [shelf.note_failure(KEY) for _ in range(FAILURES)]
    assert said == [False] * (2 * FAILURES - 2) + [True]
