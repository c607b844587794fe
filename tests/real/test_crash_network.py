"""A real daemon killed between its effects on the network, without any guest: `up` and `down`."""

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
name: empty
services:
  web: {image: tiny, deploy: {replicas: 0, resources: {limits: {memory: 96M}}}}
"""
UP = ("network:host", "network:namespace", "network:rules", "network:links", "network:dns")
DOWN = (
    "network:dns-stopped",
    "network:links-removed",
    "remove-environment:network",
    "remove-environment:files",
    "remove-environment:told",
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    return tmp_path


def order(daemon: Any, *words: str, cwd: Path) -> None:
    """What the user wants; the daemon may die of it before it answers."""
    subprocess.run(
        [sys.executable, "-m", "vmorch.cli.main", *words],
        env=daemon.environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )


def killed_at(daemon: Any, point: str, *words: str, cwd: Path) -> None:
    daemon.stop()
    os.environ["VMORCH_CRASH_AT"] = point
    try:
        daemon.start()
    finally:
        del os.environ["VMORCH_CRASH_AT"]
    order(daemon, *words, cwd=cwd)
    assert daemon.process.wait(timeout=60) == -signal.SIGKILL
    daemon.start()


def eventually(condition: Callable[[], bool], what: str, seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(VmorchError):
            if condition():
                return
        time.sleep(0.2)
    raise AssertionError(f"it did not come to pass that {what}")


def standing(daemon: Any) -> set[str]:
    """Links, namespaces, resolvers and directories of this installation's environments."""
    short = daemon.client.version().installation
    links = json.loads(subprocess.check_output(["ip", "-j", "link"]))
    found = {link["ifname"] for link in links} | {p.name for p in Path("/run/netns").glob("*")}
    found = {name for name in found if name.startswith(f"{short}-")}
    for process in psutil.process_iter(["name", "cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if process.info["name"] == "dnsmasq" and str(daemon.settings.network_run_dir) in words:
            found.add("dnsmasq" if "dnsmasq" not in found else "two dnsmasq")
    places = (daemon.settings.network_run_dir, daemon.settings.state_dir / "environments")
    return found | {path.name for place in places for path in place.glob("*")}


def whole(daemon: Any) -> bool:
    short = daemon.client.version().installation
    wanted = {f"{short}-{end}" for end in ("br0", "up0", "dn0", "r0")} | {"dnsmasq", "0"}
    return wanted <= standing(daemon) and "two dnsmasq" not in standing(daemon)


@pytest.mark.parametrize("point", UP)
def test_killed_while_a_network_is_made(daemon: Any, project: Path, point: str) -> None:
    killed_at(daemon, point, "up", "-d", cwd=project)
    eventually(lambda: whole(daemon), "the network is whole")
    daemon.cli("-p", "empty", "down")
    eventually(lambda: standing(daemon) == set(), "nothing is left")


@pytest.mark.parametrize("point", DOWN)
def test_killed_while_an_environment_is_removed(daemon: Any, project: Path, point: str) -> None:
    daemon.cli("up", "-d", cwd=project)
    eventually(lambda: whole(daemon), "the network is whole")
    killed_at(daemon, point, "down", "-d", cwd=project)
    eventually(lambda: standing(daemon) == set(), "nothing is left")
    eventually(lambda: daemon.client.environments() == [], "it is forgotten")
