"""A test run that is killed leaves nothing: its environment goes with it, within ten seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

COMPOSE = """
services:
  web:
    image: tiny
    command: ["/usr/lib/vmorch/busybox", "sleep", "1000000"]
    ports: ["8080"]
    deploy: {resources: {limits: {memory: 96M}}}
"""
# What a test run does: bring up an environment of its own, use it, die.
HOLDER = """
import os, subprocess, sys, time
subprocess.run([sys.executable, "-m", "vmorch.cli.main", "-p", "held", "up",
                "--holder", str(os.getpid())], check=True, stdout=subprocess.DEVNULL)
print("up", flush=True)
time.sleep(1000)
"""


def environments(daemon: Any) -> list[str]:
    return [row["name"] for row in json.loads(daemon.cli("env", "ls", "-o", "json").stdout)]


def gone(daemon: Any, name: str) -> float:
    """How long it took."""
    start = time.monotonic()
    while name in environments(daemon):
        assert time.monotonic() - start < 60, daemon.cli("-p", name, "events").stdout
        time.sleep(0.2)
    return time.monotonic() - start


def test_it_goes_with_its_holder_and_leaves_its_neighbour(daemon: Any, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    daemon.cli("-p", "free", "up", cwd=tmp_path)
    free = daemon.ps("-p", "free")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        env=daemon.environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "up\n"
    ports = {daemon.cli("-p", name, "port", "web", "8080").stdout for name in ("free", "held")}
    assert len(ports) == 2
    (row,) = daemon.ps("-p", "held")
    holder.kill()
    assert gone(daemon, "held") < 10.0
    holder.wait()
    domains = subprocess.run(["virsh", "-q", "list", "--name"], capture_output=True, text=True)
    assert row["domain"] not in domains.stdout
    assert not (
        daemon.settings.state_dir / "environments" / "held" / "web-1" / "disk.qcow2"
    ).exists()
    assert "has ended" in daemon.cli("-p", "held", "events").stdout
    (still,) = daemon.ps("-p", "free")
    assert (still["ready"], still["started_at"]) == (True, free[0]["started_at"])


def test_it_goes_when_its_time_is_over_also_while_the_daemon_was_dead(
    daemon: Any, tmp_path: Path
) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    daemon.cli("-p", "short", "up", "-d", "--ttl", "8s", cwd=tmp_path)
    daemon.kill()
    time.sleep(8.0)
    daemon.start()
    assert gone(daemon, "short") < 30.0


def test_stop_start_and_pause_are_real(daemon: Any, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    daemon.cli("-p", "free", "up", cwd=tmp_path)
    (before,) = daemon.ps("-p", "free")
    daemon.cli("-p", "free", "pause", "web-1")
    assert _virsh(before["domain"]) == "paused"
    daemon.cli("-p", "free", "unpause", "web-1")
    assert _virsh(before["domain"]) == "running"
    daemon.cli("-p", "free", "stop")
    assert _virsh(before["domain"]) == ""
    daemon.cli("-p", "free", "start")
    (after,) = daemon.ps("-p", "free")
    assert (after["instance"], after["address"], after["ready"]) == (
        before["instance"],
        before["address"],
        True,
    )
    daemon.cli("-p", "free", "restart")
    assert daemon.ps("-p", "free")[0]["restarts"] == after["restarts"] + 1


def _virsh(domain: str) -> str:
    done = subprocess.run(["virsh", "-q", "domstate", domain], capture_output=True, text=True)
    return done.stdout.strip()
