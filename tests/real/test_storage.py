"""Volumes, secrets and configs in real `tiny` guests: what stays, what is seen, what is not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

SECRET = "correct-horse-battery-staple"
OTHER_SECRET = "another-horse-altogether"
COMPOSE = """
name: keep
services:
  db:
    build: .
    volumes: ["data:/srv/data"]
    secrets: [password, {source: password, target: /etc/app/password, uid: 7, mode: 0400}]
    configs: [{source: motd, target: /etc/motd}]
    stop_grace_period: 1s
    deploy: {resources: {limits: {memory: 96M}}}
volumes:
  data: {size: 64M}
secrets:
  password: {file: ./password}
configs:
  motd: {content: "kept apart"}
"""
DOCKERFILE = """
FROM tiny
COPY given /srv/data/given
RUN chown -R 7:8 /srv/data && chmod 0750 /srv/data && chmod 0640 /srv/data/given
CMD ["/bin/sleep", "1000000"]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keep")
    (directory / "compose.yaml").write_text(COMPOSE)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "given").write_text("from the image\n")
    (directory / "password").write_text(SECRET)
    (directory / ".dockerignore").write_text("password\n")
    return directory


def inside(daemon: Any, instance: str, line: str) -> str:
    done: subprocess.CompletedProcess[str] = daemon.cli(
        *("-p", "keep", "exec", "-T", "--user", "root", instance),
        *("/usr/lib/vmorch/busybox", "sh", "-c", line),
    )
    return done.stdout.strip()


def instance_of(daemon: Any) -> str:
    (row,) = daemon.ps("-p", "keep")
    assert row["ready"]
    return str(row["instance"])


def holders(directory: Path, text: str) -> set[str]:
    """The files that contain it, relative to `directory`."""
    found = subprocess.run(
        ["grep", "-rlaF", text, "."], cwd=directory, capture_output=True, text=True
    )
    assert found.returncode in (0, 1), found.stderr
    return set(found.stdout.split())


def test_what_a_service_keeps_and_what_it_is_given(daemon: Any, project: Path) -> None:
    """One story, as each boot takes seconds: first use, new revision, down and
    up again as a fork, down -v."""
    daemon.cli("up", cwd=project)
    first = instance_of(daemon)
    _assert_filled_from_the_image(daemon, first)
    _assert_given(daemon, first, SECRET)
    _assert_secret_is_nowhere(daemon, SECRET)
    inside(daemon, first, "echo mine > /srv/data/mine")

    (project / "password").write_text(OTHER_SECRET)
    (project / "compose.yaml").write_text(COMPOSE.replace("size: 64M", "size: 128M"))
    daemon.cli("up", cwd=project)
    second = instance_of(daemon)
    assert second != first
    assert inside(daemon, second, "cat /srv/data/mine") == "mine"
    _assert_given(daemon, second, OTHER_SECRET)
    blocks = int(inside(daemon, second, "df -k /srv/data | tail -1").split()[1])
    assert blocks > 100 * 1024

    daemon.cli("-p", "keep", "snapshot", "create", "db")
    fill = "for n in $(seq 200); do echo $n >/srv/data/since-$n; done; rm /srv/data/given"
    inside(daemon, second, fill)
    daemon.cli("-p", "keep", "down")
    (volume,) = (daemon.settings.state_dir / "volumes" / "keep").iterdir()
    assert volume.name == "data.qcow2"
    daemon.cli("up", cwd=project)
    (row,) = daemon.ps("-p", "keep")
    assert row["start"] == "fork"
    # Memory that knew the volume as it was at the snapshot's time would see and write the past.
    seen = inside(daemon, row["instance"], "cd /srv/data; cat mine since-200; ls | wc -l")
    assert seen.split() == ["mine", "200", "201"]
    inside(daemon, row["instance"], "rm /srv/data/since-*; echo more >/srv/data/more")

    daemon.cli("-p", "keep", "down")
    _assert_whole(volume)
    daemon.cli("-p", "keep", "down", "-v")
    assert not (daemon.settings.state_dir / "volumes" / "keep").exists()


def _assert_whole(volume: Path) -> None:
    """Its file system is as somebody left it who knew all of it."""
    raw = volume.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", volume, raw], check=True)
    checked = subprocess.run(["e2fsck", "-fn", raw], capture_output=True, text=True)
    raw.unlink()
    assert checked.returncode == 0, checked.stdout


def _assert_filled_from_the_image(daemon: Any, instance: str) -> None:
    assert inside(daemon, instance, "cat /srv/data/given") == "from the image"
    modes = inside(daemon, instance, "stat -c '%u:%g %a' /srv/data /srv/data/given")
    assert modes.splitlines() == ["7:8 750", "7:8 640"]
    assert inside(daemon, instance, "ls /srv/data") == "given"
    assert " /srv/data ext4 rw" in inside(daemon, instance, "cat /proc/mounts")


def _assert_given(daemon: Any, instance: str, secret: str) -> None:
    assert inside(daemon, instance, "cat /run/secrets/password") == secret
    assert inside(daemon, instance, "cat /etc/app/password") == secret
    assert inside(daemon, instance, "stat -c '%u %a' /etc/app/password") == "7 400"
    assert inside(daemon, instance, "cat /etc/motd") == "kept apart"


def _assert_secret_is_nowhere(daemon: Any, secret: str) -> None:
    """But in the private database, in the seed of its guest and, as one is laid out beside /run,
    on the disk of its guest, which is nobody else's."""
    state = daemon.settings.state_dir
    said = [daemon.log.read_text()]
    for words in (("ps",), ("events",), ("logs",), ("image", "ls")):
        said.append(daemon.cli("-p", "keep", *words).stdout)
    said += [json.dumps(p.info) for p in psutil.process_iter(["cmdline", "environ"])]
    assert not [text for text in said if secret in text]
    own = {"./environments/keep/db-1/seed.iso", "./environments/keep/db-1/disk.qcow2"}
    private = {f"./{file.name}" for file in state.glob("vmorch.db*")}
    found = holders(state, secret)
    backups = {name for name in found if name.startswith("./backups/")}
    assert found - private - backups == own
    for name in own | backups:
        assert (state / name).stat().st_mode & 0o077 == 0
    modes = {f.name: f.stat().st_mode & 0o777 for f in state.glob("vmorch.db*")}
    assert set(modes.values()) == {0o600}, modes
