"""Instances that follow a load: real `tiny` guests, forked, and no request that is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import load_shapes
from bench.guest_server import write_context
from bench.http_load import in_flight
from bench.lab_daemon import LabDaemon, lab_daemon
from bench.scaling import Watched

COMPOSE = """
name: follow
services:
  web:
    build: .
    expose: [8080]
    route: {host: follow.localhost}
    healthcheck: {test: ["HTTP", "/"], interval: 1s}
    autoscale: {min: 1, max: 2, concurrency: 4, stabilization: 10s, window: 6s}
    deploy: {resources: {limits: {cpus: "0.50", memory: 96M}}}
"""
LOAD = load_shapes.step(2, 7, before=6, during=30, after=10)


@pytest.fixture(scope="module")
def daemon(images_dir: Path) -> Iterator[LabDaemon]:
    with lab_daemon(images_dir, warm_snapshots=True) as own:
        yield own


def eventually(condition: Callable[[], bool], what: str, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come to pass that {what}"
        time.sleep(0.5)


def test_instances_come_and_go_with_the_load_and_no_request_is_lost(
    daemon: LabDaemon, tmp_path: Path
) -> None:
    write_context(tmp_path)
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    daemon.cli("up", cwd=tmp_path)
    eventually(lambda: any(daemon.settings.snapshots_dir.glob("[!.]*")), "there is a snapshot")
    web = Watched(client=daemon.client, environment="follow", service="web")
    url = f"http://127.0.0.1:{daemon.settings.http_port}/slow"
    with web.recorded() as ticks:
        outcome = load_shapes.run(LOAD, in_flight(url, "follow.localhost"))
        eventually(lambda: ticks[-1].instances == 1, "one is left")
    assert outcome.requests > 0
    assert outcome.failed == 0
    assert max(tick.ready for tick in ticks) == 2
    assert [decision.count for decision in web.decisions()] == [2, 1]
    assert "requests in flight" in web.decisions()[0].reason
    (kept,) = daemon.ps("-p", "follow")
    assert (kept["instance"], kept["ready"]) == ("web-1", True)
