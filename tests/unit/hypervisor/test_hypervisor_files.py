"""Whose the disks are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vmorch.errors import HypervisorError
from vmorch.hypervisor.files import SPARE_DISK_BYTES, ensure_spare_disk, hand_over, share
from vmorch.hypervisor.platform import Owner

ME = Owner(uid=os.getuid(), gid=os.getgid())


def test_the_blank_disk_is_made_once_and_nobody_writes_it(tmp_path: Path) -> None:
    path = ensure_spare_disk(tmp_path / "hypervisor")
    first = path.stat()
    assert first.st_size == SPARE_DISK_BYTES
    assert stat.S_IMODE(first.st_mode) == 0o444
    assert ensure_spare_disk(tmp_path / "hypervisor") == path
    assert path.stat().st_ino == first.st_ino


def test_a_blank_disk_of_another_size_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "blank.raw").write_bytes(b"cut")
    assert ensure_spare_disk(tmp_path).stat().st_size == SPARE_DISK_BYTES


def test_an_overlay_is_for_its_owner_alone(tmp_path: Path) -> None:
    disk = tmp_path / "disk.qcow2"
    disk.touch(mode=0o644)
    hand_over(disk, ME, mode=0o600)
    assert stat.S_IMODE(disk.stat().st_mode) == 0o600


def test_a_shared_disk_is_read_by_the_group_and_written_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, given = tmp_path / "disk.qcow2", []
    disk.touch(mode=0o600)
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, **_: given.append((path, uid, gid)))
    share(disk, Owner(uid=64055, gid=64056))
    assert stat.S_IMODE(disk.stat().st_mode) == 0o440
    assert given == [(disk, os.getuid(), 64056)]


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "directory", "absent"])
def test_a_shared_file_is_never_handed_over(tmp_path: Path, kind: str) -> None:
    layer, disk = tmp_path / "layer.qcow2", tmp_path / "disk.qcow2"
    layer.touch(mode=0o444)
    match kind:
        case "symlink":
            disk.symlink_to(layer)
        case "hardlink":
            disk.hardlink_to(layer)
        case "directory":
            disk.mkdir()
    with pytest.raises(HypervisorError):
        hand_over(disk, ME, mode=0o600)
    assert stat.S_IMODE(layer.stat().st_mode) == 0o444
