from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from vmorch.config import Settings
from vmorch.errors import VmorchError
from vmorch.host.system import DISK_STEP_BYTES, SystemHost
from vmorch.model.guest import Acceleration

MIB = 1024**2


def test_what_is_kept_comes_from_the_settings(tmp_path: Path) -> None:
    settings = Settings(
        state_dir=tmp_path,
        cpu_overcommit=1.5,
        kept_memory_bytes=64 * MIB,
        kept_disk_bytes=2 * MIB,
    )
    seen = SystemHost(settings, Acceleration.TCG).view()
    assert seen.millicpus == seen.cpus * 1500 > 0
    assert seen.instance_memory_bytes == seen.memory_bytes - 64 * MIB > 0
    assert seen.instance_disk_bytes == seen.free_disk_bytes - 2 * MIB > 0
    assert seen.acceleration is Acceleration.TCG
    none_left = replace(seen, kept_memory_bytes=seen.memory_bytes + 1, free_disk_bytes=0)
    assert none_left.instance_memory_bytes == none_left.instance_disk_bytes == 0


def test_the_free_disk_is_told_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10 * DISK_STEP_BYTES
    total = 100 * DISK_STEP_BYTES
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free, total=total))
    host = SystemHost(Settings(state_dir=tmp_path), Acceleration.KVM)
    told = [host.view().free_disk_bytes]
    for moved in (1, -1, DISK_STEP_BYTES - 1, DISK_STEP_BYTES, 5, -DISK_STEP_BYTES):
        free = 10 * DISK_STEP_BYTES + moved
        told.append(host.view().free_disk_bytes)
    begin = 10 * DISK_STEP_BYTES
    after = 11 * DISK_STEP_BYTES
    assert told == [begin, begin, begin, begin, after, after, begin - DISK_STEP_BYTES]


def test_of_a_small_disk_little_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = SimpleNamespace(free=90 * MIB, total=100 * MIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small)
    host = SystemHost(Settings(state_dir=tmp_path), Acceleration.KVM)
    assert host.view().kept_disk_bytes == 5 * MIB
    small.free = 80 * MIB
    assert host.view().free_disk_bytes == 80 * MIB


def test_a_disk_that_is_gone_is_an_error_of_ours(tmp_path: Path) -> None:
    host = SystemHost(Settings(state_dir=tmp_path / "gone"), Acceleration.KVM)
    with pytest.raises(VmorchError, match="gone"):
        host.view()
