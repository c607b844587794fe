"""A user's `cloud_init:` on a real Debian guest, and what is told when it fails there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.lab_daemon import LabDaemon

COMPOSE = """
name: clouds
services:
  good:
    image: debian:12
    cloud_init: |
      #cloud-config
      write_files:
        - path: /srv/hello/index.html
          content: written by cloud-init
      runcmd:
        - [sh, -c, "echo ran >> /run/ran"]
    command: sleep infinity
    deploy: {resources: {limits: {memory: 384M}}}
"""
BAD = """
name: clouds
services:
  bad:
    image: debian:12
    cloud_init: |
      #cloud-config
      write_files: this is no list
      users: 17
      runcmd:
        - [sh, -c, "echo sorry, no >&2; exit 5"]
    command: sleep infinity
    deploy: {resources: {limits: {memory: 384M}}}
"""


@pytest.fixture(autouse=True)
def gone(daemon: LabDaemon) -> object:
    yield
    return daemon.cli("-p", "clouds", "down", check=False)


def test_user_data_is_applied_before_the_instance_is_ready(
    daemon: LabDaemon, tmp_path: Path
) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    daemon.cli("up", cwd=tmp_path)
    run = daemon.cli(
        *("-p", "clouds", "exec", "-T", "--user", "root", "good-1"),
        *("cat", "/srv/hello/index.html", "/run/ran", "/etc/hostname"),
    )
    assert run.stdout.split("\n") == ["written by cloud-initran", "good-1", ""]


@pytest.mark.long
def test_user_data_is_applied_once_in_an_instance_s_life(daemon: LabDaemon, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE.replace("/run/ran", "/srv/ran"))
    daemon.cli("up", cwd=tmp_path)
    daemon.cli("-p", "clouds", "restart")
    (row,) = daemon.ps("-p", "clouds")
    assert (row["ready"], row["restarts"]) == (True, 1)
    ran = daemon.cli(
        *("-p", "clouds", "exec", "-T", "--user", "root", "good-1"),
        *("sh", "-c", "cat /srv/ran /run/vmorch/instance-id /var/lib/cloud/data/instance-id"),
    ).stdout.split()
    assert (ran[0], len(ran)) == ("ran", 3)
    assert ran[1] == f"{ran[2]}-2"


@pytest.mark.long
def test_a_failure_of_cloud_init_is_seen(daemon: LabDaemon, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(BAD)
    done = daemon.cli("up", "--timeout", "150", cwd=tmp_path, check=False)
    assert done.returncode in {1, 6}
    assert "cloud-init" in done.stdout + done.stderr
    (row,) = daemon.ps("-p", "clouds")
    assert row["ready"] is False
    assert "cloud-init" in row["reason"]
    assert "cloud-init-failed" in daemon.cli("-p", "clouds", "events").stdout
    logs = daemon.cli("-p", "clouds", "logs").stdout
    assert "sorry, no" in logs or "cloud-init" in logs
