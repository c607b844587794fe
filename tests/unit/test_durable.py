"""What is published is on the disk before its name is."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from vmorch import durable
from vmorch.images.bases import BaseCatalog
from vmorch.images.blobs import BlobStore
from vmorch.images.service import ImageService
from vmorch.model.stepnet import StepNetwork
from vmorch.resources import data_dir


def no_network() -> AbstractAsyncContextManager[StepNetwork]:
    raise AssertionError("nothing is built here")


@pytest.fixture
def effects(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is synced, and of what is moved, in order."""
    seen: list[str] = []
    replace, rename = Path.replace, Path.rename

    def fsync(descriptor: int) -> None:
        seen.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")

    def moved(move: object) -> object:
        def call(self: Path, target: Path) -> Path:
            seen.append(f"move {self.name} {target.name}")
            assert callable(move)
            result: Path = move(self, target)
            return result

        return call

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", moved(replace))
    monkeypatch.setattr(Path, "rename", moved(rename))
    return seen


def test_a_file(tmp_path: Path, effects: list[str]) -> None:
    (tmp_path / "new").write_text("x")
    durable.publish(tmp_path / "new", tmp_path / "final")
    assert effects == ["sync new", "move new final", f"sync {tmp_path.name}"]


def test_a_directory(tmp_path: Path, effects: list[str]) -> None:
    (tmp_path / "new").mkdir()
    for name in ("a", "b"):
        (tmp_path / "new" / name).write_text(name)
    durable.publish_directory(tmp_path / "new", tmp_path / "final")
    assert set(effects[:2]) == {"sync a", "sync b"}
    assert effects[2:] == ["sync new", "move new final", f"sync {tmp_path.name}"]
    assert (tmp_path / "final/a").read_text() == "a"


def test_a_content_that_was_sent(tmp_path: Path, effects: list[str]) -> None:
    blobs = BlobStore(tmp_path / "blobs", temporary=tmp_path)
    blobs.prepare()
    place = blobs.path(blobs.put_bytes(b"x"))
    assert effects[0].startswith("sync blob-")
    assert effects[1].endswith(f" {place.name}")
    assert effects[2:] == [f"sync {place.parent.name}"]


def test_a_fork_s_disk(tmp_path: Path, effects: list[str]) -> None:
    """It is the instance's from then on: after a power cut it is there, and what it stands on."""
    create = ("qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "frozen.qcow2"), "1M")
    subprocess.run(create, check=True)
    images = tmp_path / "images"
    service = ImageService(images, BaseCatalog(images, data_dir("images")), no_network)
    effects.clear()
    asyncio.run(service.create_fork(tmp_path / "frozen.qcow2", tmp_path / "disk.qcow2"))
    moved = "move .disk.qcow2.new disk.qcow2"
    assert effects == ["sync .disk.qcow2.new", moved, f"sync {tmp_path.name}"]
