"""A real daemon killed between its effects, and what it stands on killed under it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from vmorch.errors import VmorchError

COMPOSE = """
name: {name}
services:
  web:
    image: tiny
    command: /usr/lib/vmorch/busybox httpd -f -p 8080 -h /etc
    expose: [8080]
    healthcheck: {{test: ["TCP", "8080"], interval: 1s}}
    stop_grace_period: 1s
    deploy: {{replicas: 1, resources: {{limits: {{cpus: "0.50", memory: 96M}}}}}}
"""
UP = ("create:recorded", "start:disk", "start:seed", "start:guest", "cap:set", "start:intended")
SCALE = ("start:recorded",)
DOWN = ("shutdown:recorded", "remove:disk", "remove-environment:network")


@pytest.fixture(scope="module")
def beside(daemon: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """An environment that nothing here is about; its QEMU must stay the same process."""
    project(daemon, tmp_path_factory.mktemp("beside"), "beside", "up")
    return qemus(daemon, "beside")


def project(daemon: Any, directory: Path, name: str, *words: str) -> Any:
    (directory / "compose.yaml").write_text(COMPOSE.format(name=name))
    return daemon.cli(*words, cwd=directory)


def ready(daemon: Any, name: str, count: int) -> bool:
    rows = daemon.ps("-p", name)
    return len(rows) == count and all(row["ready"] for row in rows)


def eventually(condition: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(AssertionError, VmorchError):
            if condition():
                return
        time.sleep(0.3)
    raise AssertionError(f"it did not come to pass that {what}")


def qemus(daemon: Any, environment: str) -> dict[str, int]:
    """Every QEMU process of the environment; an instance that has two is an error."""
    short = daemon.client.version().installation
    found: dict[str, int] = {}
    for process in psutil.process_iter(["cmdline"]):
        for word in process.info["cmdline"] or []:
            if word.startswith(f"guest={short}-{environment}-"):
                name = word.partition(",")[0]
                assert name not in found
                found[name] = process.pid
    return found


def restart_to_die_at(daemon: Any, point: str) -> None:
    daemon.stop()
    os.environ["VMORCH_CRASH_AT"] = point
    try:
        daemon.start()
    finally:
        del os.environ["VMORCH_CRASH_AT"]


def wait_dead(daemon: Any, point: str) -> None:
    try:
        code = daemon.process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the daemon never came to {point}")
    assert code == -signal.SIGKILL


def order(daemon: Any, *words: str, cwd: Path | None = None) -> None:
    """What the user wants; the daemon may die of it before it answers."""
    subprocess.run(
        [sys.executable, "-m", "vmorch.cli.main", *words],
        env=daemon.environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )


def leftovers(daemon: Any, environment: str) -> list[str]:
    """Whatever a removed environment might have left on the host."""
    short = daemon.client.version().installation
    domains = subprocess.check_output(["virsh", "list", "--all", "--name"], text=True).split()
    found = [name for name in domains if name.startswith(f"{short}-{environment}-")]
    links = json.loads(subprocess.check_output(["ip", "-j", "link"]))
    names = [link["ifname"] for link in links] + [p.name for p in Path("/run/netns").glob("*")]
    found += [n for n in names if n.startswith((f"{short}-br1", f"{short}-r1", f"{short}-t1"))]
    directory = daemon.settings.state_dir / "environments" / environment
    found += [str(directory)] if directory.exists() else []
    mounts = Path("/proc/self/mounts").read_text()
    found += ["a mount"] if str(directory) in mounts else []
    network = daemon.settings.network_run_dir / "1"
    for process in psutil.process_iter(["cmdline"]):
        if any(str(network) in word for word in process.info["cmdline"] or []):
            found.append(f"process {process.pid}")
    return found + ([str(network)] if network.exists() else [])


@pytest.mark.parametrize("point", UP)
def test_killed_during_up(daemon: Any, beside: dict[str, int], tmp_path: Path, point: str) -> None:
    restart_to_die_at(daemon, point)
    (tmp_path / "compose.yaml").write_text(COMPOSE.format(name="shop"))
    order(daemon, "up", "-d", cwd=tmp_path)
    wait_dead(daemon, point)
    daemon.start()
    eventually(lambda: ready(daemon, "shop", 1), "shop is ready")
    assert len(qemus(daemon, "shop")) == 1
    assert qemus(daemon, "beside") == beside
    daemon.cli("-p", "shop", "down")
    eventually(lambda: leftovers(daemon, "shop") == [], "nothing is left")


@pytest.mark.parametrize("point", SCALE)
def test_killed_during_scale(
    daemon: Any, beside: dict[str, int], tmp_path: Path, point: str
) -> None:
    project(daemon, tmp_path, "shop", "up")
    first = qemus(daemon, "shop")
    restart_to_die_at(daemon, point)
    order(daemon, "-p", "shop", "scale", "-d", "web=2")
    wait_dead(daemon, point)
    daemon.start()
    eventually(lambda: ready(daemon, "shop", 2), "both are ready")
    both = qemus(daemon, "shop")
    assert len(both) == 2
    assert first.items() <= both.items()
    assert qemus(daemon, "beside") == beside


@pytest.mark.parametrize("point", DOWN)
def test_killed_during_down(
    daemon: Any, beside: dict[str, int], tmp_path: Path, point: str
) -> None:
    project(daemon, tmp_path, "shop", "up")
    restart_to_die_at(daemon, point)
    order(daemon, "-p", "shop", "down", "-d")
    wait_dead(daemon, point)
    daemon.start()
    eventually(lambda: leftovers(daemon, "shop") == [], "nothing is left")
    assert qemus(daemon, "beside") == beside


def test_haproxy_killed_during_up(daemon: Any, beside: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE.format(name="shop"))
    daemon.cli("up", "-d", cwd=tmp_path)
    eventually(lambda: bool(qemus(daemon, "shop")), "its guest has begun")
    for process in haproxies(daemon):
        process.kill()
    eventually(lambda: ready(daemon, "shop", 1), "shop is ready")
    eventually(lambda: bool(haproxies(daemon)), "there is a proxy again")
    assert qemus(daemon, "beside") == beside
    daemon.cli("-p", "shop", "down")


def haproxies(daemon: Any) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "haproxy"
        and any(str(daemon.settings.state_dir) in word for word in process.info["cmdline"] or [])
    ]


@pytest.mark.parametrize("boots", [False, True], ids=["while it is made", "while it boots"])
def test_libvirtd_killed_during_up(
    daemon: Any, beside: dict[str, int], tmp_path: Path, boots: bool
) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE.format(name="shop"))
    daemon.cli("up", "-d", cwd=tmp_path)
    eventually(lambda: bool(qemus(daemon, "shop")), "its process has begun")
    if boots:
        eventually(lambda: daemon.ps("-p", "shop")[0]["state"] == "running", "its guest boots")
    running = qemus(daemon, "shop")
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "libvirtd":
            process.kill()
            process.wait()
    time.sleep(1)
    subprocess.run(["libvirtd", "-d"], check=True)
    eventually(lambda: ready(daemon, "shop", 1), "shop is ready")
    assert len(qemus(daemon, "shop")) == 1
    assert not boots or qemus(daemon, "shop") == running
    assert qemus(daemon, "beside") == beside
    daemon.cli("-p", "shop", "down")
    eventually(lambda: leftovers(daemon, "shop") == [], "nothing is left")


def test_a_damaged_database_is_refused_and_restored(daemon: Any, beside: dict[str, int]) -> None:
    eventually(lambda: bool(list(daemon.settings.backups_dir.glob("*.db"))), "there is a copy")
    daemon.kill()
    database = daemon.settings.database
    content = bytearray(database.read_bytes())
    content[100:4096] = b"\xa5" * 3996
    database.write_bytes(content)
    for end in ("-wal", "-shm"):
        Path(f"{database}{end}").unlink(missing_ok=True)
    refused = daemon.cli("daemon", "start", check=False)
    assert refused.returncode == 1
    assert "is damaged" in refused.stderr
    assert "vmorch daemon restore" in refused.stderr
    assert bytes(content) == database.read_bytes()
    daemon.cli("daemon", "restore")
    daemon.start()
    eventually(lambda: ready(daemon, "beside", 1), "the environment is known again")
    assert qemus(daemon, "beside") == beside


def test_a_store_that_is_lost_is_rebuilt_around_the_guests_that_run(
    daemon: Any, beside: dict[str, int], tmp_path: Path
) -> None:
    daemon.kill()
    for path in daemon.settings.state_dir.glob("vmorch.db*"):
        path.unlink()
    for copy in daemon.settings.backups_dir.glob("*"):
        copy.unlink()
    daemon.start()
    time.sleep(3)
    assert qemus(daemon, "beside") == beside
    assert "unknown" in daemon.cli("doctor", check=False).stdout
    daemon.stop()
    daemon.cli("daemon", "rebuild")
    daemon.start()
    project(daemon, tmp_path, "beside", "up")
    eventually(lambda: ready(daemon, "beside", 1), "it is ready again")
    assert qemus(daemon, "beside") == beside
