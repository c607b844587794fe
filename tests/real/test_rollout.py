"""Rollouts as a user has them: real `tiny` guests under load, from outside and from inside."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.lab_daemon import LabDaemon, lab_daemon
from tests.real.http_traffic import Traffic

REQUESTS = 20_000
COMPOSE = """
name: roll
services:
  web:
    build: .
    environment: {VERSION: "one", BEHAVIOUR: "well"}
    expose: [8080]
    route: {host: roll.localhost}
    healthcheck: {test: ["HTTP", "/health.html"], interval: 1s, retries: 2}
    stop_grace_period: 5s
    deploy:
      replicas: 2
      resources: {limits: {cpus: "0.50", memory: 96M}}
      update_config: {monitor: 2s}
  caller:
    image: tiny
    command: [/bin/sh, -c, "$CALLER"]
    depends_on: {web: {condition: service_healthy}}
    stop_grace_period: 1s
    deploy: {resources: {limits: {cpus: "0.50", memory: 96M}}}
"""
CALLER = (
    "while :; do "
    "if wget -q -O /dev/null http://web:8080/; then echo answered; else echo FAILED; fi; done"
)
DOCKERFILE = """
FROM tiny
COPY serve /usr/local/bin/serve
EXPOSE 8080
CMD ["/usr/local/bin/serve"]
"""
# Beside the page there is one that takes its time, for drains to wait for. `never`: the check is
# never answered; `sick`: for ten seconds only. The page itself stays.
SERVE = """#!/bin/sh
mkdir -p /tmp/www
echo "$VERSION" >/tmp/www/index.html
[ "$BEHAVIOUR" = never ] || echo well >/tmp/www/health.html
mkdir -p /tmp/www/cgi-bin
printf '#!/bin/sh\nsleep 3\nprintf "Content-Type: text/plain\\n\\nslow\\n"\n' >/tmp/www/cgi-bin/slow
chmod 755 /tmp/www/cgi-bin/slow
if [ "$BEHAVIOUR" = sick ]; then (sleep 10; rm /tmp/www/health.html) & fi
exec httpd -f -p 8080 -h /tmp/www
"""


@pytest.fixture(scope="module")
def daemon(images_dir: Path) -> Iterator[LabDaemon]:
    with lab_daemon(images_dir, warm_snapshots=True) as own:
        yield own


@pytest.fixture(scope="module")
def project(daemon: LabDaemon, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("roll")
    (directory / "compose.yaml").write_text(COMPOSE.replace("$CALLER", CALLER))
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "serve").write_text(SERVE)
    (directory / "serve").chmod(0o755)
    daemon.cli("up", cwd=directory)
    return directory


@pytest.fixture
def traffic(daemon: LabDaemon, project: Path) -> Iterator[Traffic]:
    load = Traffic(host="roll.localhost", port=daemon.settings.http_port)
    slow = Traffic(host="roll.localhost", port=daemon.settings.http_port, path="/cgi-bin/slow")
    with load.flowing(kept=2, fresh=2), slow.flowing(kept=1, fresh=1):
        load.wait_for(100, seconds=60)
        slow.wait_for(1, seconds=60)
        yield load
    assert slow.failures == []
    assert set(slow.answers) == {"slow"}


def change(project: Path, pattern: str, replacement: str) -> None:
    file = project / "compose.yaml"
    text, count = re.subn(pattern, replacement, file.read_text())
    assert count == 1
    file.write_text(text)


def release(project: Path, version: str, *, behaviour: str = "well", monitor: str = "2s") -> None:
    line = f'environment: {{VERSION: "{version}", BEHAVIOUR: "{behaviour}"}}'
    change(project, r"environment: \{VERSION.*\}", line)
    change(project, r"update_config: \{.*\}", f"update_config: {{monitor: {monitor}}}")


def web(daemon: LabDaemon) -> list[dict[str, Any]]:
    return [row for row in daemon.ps("-p", "roll") if row["service"] == "web"]


def serves(daemon: LabDaemon, revision: int, count: int) -> Callable[[], bool]:
    def holds() -> bool:
        rows = web(daemon)
        right = [row for row in rows if row["ready"] and row["revision"] == revision]
        return len(rows) == len(right) == count

    return holds


def eventually(condition: Callable[[], bool], what: str, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.5)
    raise AssertionError(f"it did not come to pass that {what}")


def events(daemon: LabDaemon, kind: str) -> list[str]:
    lines = daemon.cli("-p", "roll", "events", "-o", "json").stdout.splitlines()
    return [event["message"] for event in map(json.loads, lines) if event["kind"] == kind]


def calls(daemon: LabDaemon) -> list[str]:
    return daemon.cli("-p", "roll", "logs", "--no-log-prefix", "caller").stdout.split()


def test_no_request_is_lost_in_a_rolling_update(
    daemon: LabDaemon, project: Path, traffic: Traffic
) -> None:
    release(project, "two")
    daemon.cli("up", cwd=project)
    eventually(serves(daemon, 2, 2), "both are of the new revision")
    traffic.wait_for(REQUESTS, seconds=400)
    assert traffic.failures == []
    assert set(traffic.answers) == {"one", "two"}
    assert "FAILED" not in calls(daemon)
    assert "answered" in calls(daemon)


@pytest.mark.parametrize(
    ("behaviour", "monitor", "why"),
    [("never", "2s", "not ready in its time"), ("sick", "20s", "after it was ready")],
)
def test_a_bad_revision_is_rolled_back_and_no_request_is_lost(
    daemon: LabDaemon, project: Path, traffic: Traffic, behaviour: str, monitor: str, why: str
) -> None:
    good = web(daemon)
    before = len(events(daemon, "rolled-back"))
    release(project, behaviour, behaviour=behaviour, monitor=monitor)
    daemon.cli("up", "-d", cwd=project)
    eventually(lambda: len(events(daemon, "rolled-back")) > before, "it is rolled back")
    eventually(serves(daemon, good[0]["revision"], 2), "the good revision serves alone")
    assert [row["instance"] for row in web(daemon)] == [row["instance"] for row in good]
    assert why in events(daemon, "rolled-back")[-1]
    assert traffic.failures == []
    assert "FAILED" not in calls(daemon)
    release(project, "two")


def test_a_canary_gets_its_share_until_it_is_promoted(
    daemon: LabDaemon, project: Path, traffic: Traffic
) -> None:
    release(project, "canary")
    daemon.cli("up", "--canary", "20%", cwd=project)
    revision = max(row["revision"] for row in web(daemon))
    traffic.answers.clear()
    traffic.wait_for(2000, seconds=120)
    share = traffic.answers["canary"] / traffic.answers.total()
    assert 0.17 <= share <= 0.23, traffic.answers
    daemon.cli("-p", "roll", "rollout", "promote", "web")
    eventually(serves(daemon, revision, 2), "it is rolled out")
    assert traffic.failures == []
    assert "FAILED" not in calls(daemon)


def test_no_request_is_lost_when_a_service_is_scaled(
    daemon: LabDaemon, project: Path, traffic: Traffic
) -> None:
    (revision,) = {row["revision"] for row in web(daemon)}
    for count in (1, 3, 1):
        daemon.cli("-p", "roll", "scale", f"web={count}")
        eventually(serves(daemon, revision, count), f"there are {count}")
    assert traffic.failures == []
    assert "FAILED" not in calls(daemon)
