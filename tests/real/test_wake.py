"""A service that sleeps wakes when somebody asks for it: real `tiny` guests, the whole daemon."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.lab_daemon import LabDaemon

HOST = "web.nap.localhost"
PORT = 18997
COMPOSE = f"""
name: nap
services:
  web:
    build: .
    expose: [8080]
    ports: ["{PORT}:8080"]
    route: {{host: {HOST}}}
    healthcheck: {{test: ["HTTP", "/"], interval: 1s}}
    stop_grace_period: 2s
    deploy: {{resources: {{limits: {{cpus: "0.50", memory: 96M}}}}}}
    autoscale: {{min: 0, max: 1, idle: 1h, concurrency: 100}}
  caller:
    image: tiny
    command: sleep 100000
    deploy: {{resources: {{limits: {{cpus: "0.50", memory: 96M}}}}}}
"""
DOCKERFILE = """
FROM tiny
COPY serve /usr/local/bin/serve
EXPOSE 8080
CMD ["/usr/local/bin/serve"]
"""
SERVE = """#!/bin/sh
mkdir -p /tmp/www
cat /proc/sys/kernel/random/boot_id >/tmp/www/index.html
exec httpd -f -p 8080 -h /tmp/www
"""


@pytest.fixture(scope="module")
def project(daemon: LabDaemon, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("nap")
    (directory / "compose.yaml").write_text(COMPOSE)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "serve").write_text(SERVE)
    (directory / "serve").chmod(0o755)
    daemon.cli("up", cwd=directory)
    return directory


@pytest.fixture
def asleep(daemon: LabDaemon, project: Path) -> Iterator[str]:
    """What a request was answered before it went to sleep."""
    status, before, _ = fetched(daemon)
    assert status == 200
    put_to_sleep(daemon)
    yield before
    until(daemon, "ready")


def put_to_sleep(daemon: LabDaemon) -> None:
    daemon.cli("-p", "nap", "scale", "-d", "web=0")
    until(daemon, "sleeping")


def until(daemon: LabDaemon, state: str, seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while row(daemon)["state"] != state:
        assert time.monotonic() < limit, daemon.cli("-p", "nap", "events").stdout
        time.sleep(0.1)


def row(daemon: LabDaemon) -> dict[str, Any]:
    [only] = [row for row in daemon.ps("-p", "nap") if row["service"] == "web"]
    return only


def fetched(daemon: LabDaemon, port: int | None = None) -> tuple[int, str, dict[str, str]]:
    port = port or daemon.settings.http_port
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=90)) as connection:
        connection.request("GET", "/", headers={"Host": HOST})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, answer.read().decode().strip(), headers


def test_fifty_first_requests_are_all_answered(daemon: LabDaemon, asleep: str) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: fetched(daemon)[:2], range(50)))
    assert Counter(answers) == {(200, asleep): 50}  # by the same boot: it was resumed
    assert row(daemon)["start"] == "resume"
    assert "as somebody asks for it" in daemon.cli("-p", "nap", "events").stdout


def test_a_published_port_wakes_it(daemon: LabDaemon, asleep: str) -> None:
    assert fetched(daemon, PORT)[:2] == (200, asleep)


def test_another_service_wakes_it(daemon: LabDaemon, asleep: str) -> None:
    shell = ("/usr/lib/vmorch/busybox", "wget", "-qO-", "http://web:8080/")
    words = ("-p", "nap", "exec", "-T", "caller-1", *shell)
    assert daemon.cli(*words).stdout.strip() == asleep


def test_requests_outlive_a_daemon_that_is_killed(daemon: LabDaemon, asleep: str) -> None:
    daemon.kill()
    with ThreadPoolExecutor(20) as pool:
        futures = [pool.submit(fetched, daemon) for _ in range(20)]
        time.sleep(3)
        assert not any(future.done() for future in futures)
        daemon.start()
        answers = Counter(future.result()[:2] for future in futures)
    assert answers == {(200, asleep): 20}


def test_who_cannot_be_awaited_is_told_when_to_come_back(daemon: LabDaemon, project: Path) -> None:
    """Its memory is lost, and a boot takes longer than a request may wait."""
    file = project / "compose.yaml"
    try:
        file.write_text(COMPOSE.replace("idle: 1h", "idle: 1h, hold: 1s"))
        daemon.cli("up", cwd=project)
        put_to_sleep(daemon)
        (daemon.settings.instance_dir("nap", row(daemon)["instance"]) / "ram").unlink()
        before = time.monotonic()
        status, _, headers = fetched(daemon)
        assert (status, headers["retry-after"]) == (503, "1")
        assert time.monotonic() - before < 5
        until(daemon, "ready")
        assert fetched(daemon)[0] == 200
    finally:
        file.write_text(COMPOSE)


def test_it_goes_to_sleep_by_itself_and_only_when_nobody_asks(
    daemon: LabDaemon, project: Path
) -> None:
    """A tick of the measures is 2 s."""
    file = project / "compose.yaml"
    try:
        file.write_text(COMPOSE.replace("idle: 1h", "idle: 6s"))
        daemon.cli("up", cwd=project)
        for _ in range(5):
            assert fetched(daemon)[0] == 200
            time.sleep(2)
        assert row(daemon)["state"] == "ready"
        until(daemon, "sleeping")
        assert "nothing was asked for 6s" in daemon.cli("-p", "nap", "events").stdout
        assert "asleep" in daemon.cli("-p", "nap", "why", "web").stdout
        assert fetched(daemon)[0] == 200
        until(daemon, "sleeping")
    finally:
        file.write_text(COMPOSE)


def test_a_new_revision_comes_up_and_sleeps(daemon: LabDaemon, project: Path) -> None:
    """What sleeps is replaced like any other, without being woken for it."""
    put_to_sleep(daemon)
    before = row(daemon)["instance"]
    woken = times_woken(daemon, before)
    (project / "compose.yaml").write_text(COMPOSE.replace("memory: 96M", "memory: 112M", 1))
    daemon.cli("up", "-d", cwd=project)
    limit = time.monotonic() + 120
    while row_or_none(daemon) in {None, before}:
        assert time.monotonic() < limit, daemon.cli("-p", "nap", "events").stdout
        time.sleep(0.2)
    until(daemon, "sleeping")
    assert fetched(daemon)[0] == 200
    assert times_woken(daemon, before) == woken


def times_woken(daemon: LabDaemon, instance: str) -> int:
    lines = daemon.cli("-p", "nap", "events", instance, "-o", "json").stdout.splitlines()
    return sum(json.loads(line)["kind"] == "instance-woken" for line in lines)


def row_or_none(daemon: LabDaemon) -> str | None:
    """The only instance of the service; None while there are two."""
    rows = [row["instance"] for row in daemon.ps("-p", "nap") if row["service"] == "web"]
    return rows[0] if len(rows) == 1 else None
