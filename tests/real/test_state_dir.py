"""A state directory on a disk that fills up, from a newer version, or with a file missing."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vmorch.config import Settings
from vmorch.errors import VmorchError

COMPOSE = """
name: {name}
services:
  web:
    image: {image}
    healthcheck: {{test: ["NONE"]}}
    stop_grace_period: 1s
    deploy: {{resources: {{limits: {{cpus: "0.50", memory: 96M}}}}}}
"""
MIB = 1 << 20


@pytest.fixture(scope="module")
def small(daemon: Any, images_dir: Path) -> Iterator[Any]:
    """A daemon whose state directory is a file system of 100 MiB of its own."""
    state_dir = Path(os.environ["VMORCH_LAB"]) / "small"
    state_dir.mkdir(mode=0o711)
    mount = ["mount", "-t", "tmpfs", "-o", "size=100M,mode=711", "small", str(state_dir)]
    subprocess.run(mount, check=True)
    run_dir = Path("/run/vmorch-small")
    own = type(daemon)(
        Settings(
            state_dir=state_dir,
            run_dir=run_dir,
            socket=run_dir / "api.sock",
            http_port=18990,
            outer_pool="10.99.0.0/16",
            accel="tcg",
        )
    )
    copy_tiny(images_dir, own.settings.images_dir)
    own.start()
    yield own
    if own.process.poll() is not None:
        own.start()
    for row in own.ps():
        own.cli("-p", row["environment"], "down", check=False)
    own.stop()
    subprocess.run(["umount", "-l", str(state_dir)], check=True)


def copy_tiny(source: Path, target: Path) -> None:
    base = max(source.glob("bases/tiny-*"), key=lambda path: path.stat().st_mtime)
    (layer,) = source.glob(f"layers/{base.name.removeprefix('tiny-')}*")
    for path in (base, layer):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, copy, symlinks=True)
        else:
            shutil.copy2(path, copy)


def eventually(condition: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(VmorchError, AssertionError):
            if condition():
                return
        time.sleep(0.3)
    raise AssertionError(f"it did not come to pass that {what}")


@contextlib.contextmanager
def full(daemon: Any) -> Iterator[None]:
    """No byte is free on the state directory's disk."""
    filler = daemon.settings.state_dir / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * MIB):
            pass
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    try:
        yield
    finally:
        filler.unlink()


def project(directory: Path, name: str, image: str = "tiny") -> Path:
    (directory / "compose.yaml").write_text(COMPOSE.format(name=name, image=image))
    return directory


def ready(daemon: Any, name: str) -> bool:
    rows = daemon.ps("-p", name)
    return bool(rows) and all(row["state"] == "ready" for row in rows)


def test_up_on_a_full_disk_fails_clearly_and_works_when_there_is_room(
    small: Any, tmp_path: Path
) -> None:
    project(tmp_path, "full")
    with full(small):
        done = small.cli("up", "-d", cwd=tmp_path, check=False)
        assert done.returncode == 1
        assert "No space left" in done.stderr
        assert "vmorch image prune" in done.stderr
        assert small.cli("-p", "full", "ps", check=False).returncode == 4
        assert small.process.poll() is None
        assert "Traceback" not in done.stderr + small.log.read_text()
    small.cli("up", "-d", cwd=tmp_path)
    eventually(lambda: ready(small, "full"), "it runs once there is room")


def test_a_change_on_a_full_disk_is_refused_whole(small: Any) -> None:
    with full(small):
        for _ in range(60):  # the database's journal has some room of its own
            done = small.cli("-p", "full", "scale", "web=1", check=False)
            if done.returncode:
                break
        assert done.returncode == 1
        assert "Nothing was changed" in done.stderr
        assert "disk is full" in done.stderr
        assert small.process.poll() is None
    small.cli("-p", "full", "scale", "web=1")


def test_a_build_on_a_full_disk_leaves_nothing_and_works_when_there_is_room(
    small: Any, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM tiny\nCOPY big /srv/big\n")
    (tmp_path / "big").write_bytes(os.urandom(2 * MIB))
    with full(small):
        done = small.cli("image", "build", "-t", "big", str(tmp_path), check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "No space left" in done.stderr or "full" in done.stderr
    assert list((small.settings.images_dir / "tmp").glob("*")) == []
    small.cli("image", "build", "-t", "big", str(tmp_path))


def test_an_image_whose_file_is_gone_is_named_and_others_run_on(small: Any, tmp_path: Path) -> None:
    before = set((small.settings.images_dir / "layers").glob("*.qcow2"))
    (tmp_path / "Dockerfile").write_text("FROM tiny\nCOPY Dockerfile /srv/other\n")
    small.cli("image", "build", "-t", "torn", str(tmp_path))
    (layer,) = set((small.settings.images_dir / "layers").glob("*.qcow2")) - before
    layer.unlink()
    directory = tmp_path / "torn"
    directory.mkdir()
    project(directory, "torn", "torn")
    done = small.cli("up", "-d", cwd=directory, check=False)
    if done.returncode == 0:
        eventually(
            lambda: any("damaged" in row["reason"] for row in small.ps("-p", "torn")),
            "the instance says what is wrong",
        )
        told = small.cli("-p", "torn", "events").stdout
        assert "Build it again" in told
    else:
        assert "damaged" in done.stderr or "no image" in done.stderr
        assert "uild it again" in done.stderr
    assert ready(small, "full")
    small.cli("-p", "torn", "down", check=False)


def test_a_state_directory_of_a_newer_version_is_refused(small: Any) -> None:
    small.stop()
    with contextlib.closing(sqlite3.connect(small.settings.database)) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        database.execute("PRAGMA user_version = 999")
    refused = small.cli("daemon", "start", check=False)
    assert refused.returncode == 1
    assert "format 999" in refused.stderr
    assert "newer vmorch" in refused.stderr
    assert "Traceback" not in refused.stderr
    with contextlib.closing(sqlite3.connect(small.settings.database)) as database:
        database.execute(f"PRAGMA user_version = {version}")
    small.start()
    eventually(lambda: ready(small, "full"), "the guest is adopted")
