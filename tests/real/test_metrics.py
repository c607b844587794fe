"""Measures of a real guest, and a real Prometheus with the examples of docs/metrics.

Both programs are Debian's `prometheus`, unpacked by script/bootstrap beside the environment.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bench.lab_daemon import LabDaemon, lab_daemon

T = TypeVar("T")

PROGRAMS = Path(sys.prefix) / "share" / "prometheus"
EXAMPLES = Path(__file__).parents[2] / "docs" / "metrics"
ADDRESS = "127.0.0.1:9464"
PROMETHEUS = "127.0.0.1:9465"
REQUESTS = 40
MIB = 1024**2
COMPOSE = """
name: seen
services:
  web:
    build: .
    expose: [8080]
    route: {host: seen.localhost}
    healthcheck: {test: ["HTTP", "/"], interval: 1s}
    stop_grace_period: 1s
    deploy: {resources: {limits: {cpus: "0.50", memory: 96M}}}
"""
DOCKERFILE = """
FROM tiny
RUN mkdir -p /srv/www && echo hello >/srv/www/index.html
CMD ["httpd", "-f", "-p", "8080", "-h", "/srv/www"]
"""


@pytest.fixture(scope="module")
def daemon(images_dir: Path) -> Iterator[LabDaemon]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VMORCH_METRICS_ADDRESS", ADDRESS)
        with lab_daemon(images_dir) as own:
            yield own


@pytest.fixture(scope="module")
def web(daemon: LabDaemon, tmp_path_factory: pytest.TempPathFactory) -> LabDaemon:
    directory = tmp_path_factory.mktemp("seen")
    (directory / "compose.yaml").write_text(COMPOSE)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    daemon.cli("up", cwd=directory)
    return daemon


def fetch(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
        return bytes(answer.read())


def until(what: str, ask: Callable[[], T | None], seconds: float = 60) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := ask()) is not None:
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what} did not come")


def measured(daemon: LabDaemon) -> dict[str, Any]:
    (row,) = json.loads(daemon.cli("-p", "seen", "top", "-o", "json").stdout)
    return dict(row)


def looks(daemon: LabDaemon) -> float:
    text = fetch(f"http://{ADDRESS}/metrics").decode()
    return float(
        next(x for x in text.splitlines() if x.startswith("vmorch_samples_total")).split()[1]
    )


def test_what_a_real_guest_uses(web: LabDaemon) -> None:
    def whole() -> dict[str, Any] | None:
        row = measured(web)
        known = ("cpus", "throttled", "used_bytes", "pss_bytes", "read_bytes", "sent_bytes")
        return row if all(row["now"][name] is not None for name in known) else None

    row = until("every measure of the guest", whole)
    now = row["now"]
    assert 0 < now["used_bytes"] < 96 * MIB
    assert 0 < now["memory_share"] < 1
    assert 0 < now["pss_bytes"] <= now["rss_bytes"]
    assert 0 <= now["cpu_share"] < 1.5
    before = measured(web)["totals"]
    for _ in range(REQUESTS):
        url = f"http://127.0.0.1:{web.settings.http_port}/"
        assert fetch(url, Host="seen.localhost") == b"hello\n"
    until(
        "all requests counted",
        lambda: (
            True if measured(web)["totals"]["requests"] == before["requests"] + REQUESTS else None
        ),
    )
    after = measured(web)["totals"]
    assert after["received_bytes"] > before["received_bytes"]
    assert after["cpu_seconds"] > before["cpu_seconds"]
    assert after["errors"] == 0
    assert "web-1" in web.cli("-p", "seen", "ps", "--stats").stdout
    assert " 1/1 " in web.cli("-p", "seen", "top", "--services").stdout


def test_promtool_has_nothing_to_say_against_the_metrics(web: LabDaemon) -> None:
    text = fetch(f"http://{ADDRESS}/metrics")
    assert b'vmorch_instance_memory_used_bytes{environment="seen"' in text
    checked = subprocess.run(
        [PROGRAMS / "promtool", "check", "metrics"], input=text, capture_output=True
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


@contextmanager
def prometheus(directory: Path) -> Iterator[None]:
    """With the examples as they are, but for how often it scrapes."""
    shutil.copy(EXAMPLES / "alerts.yml", directory)
    text = (EXAMPLES / "prometheus.yml").read_text().replace("15s", "1s")
    (directory / "prometheus.yml").write_text(text)
    checked = subprocess.run(
        [PROGRAMS / "promtool", "check", "config", directory / "prometheus.yml"],
        capture_output=True,
    )
    assert checked.returncode == 0, checked.stderr
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                PROGRAMS / "prometheus",
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address={PROMETHEUS}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def asked(path: str, **query: str) -> Any:
    """Prometheus's own answer; None while it does not listen yet."""
    try:
        url = f"http://{PROMETHEUS}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        return json.loads(fetch(url))["data"]
    except OSError:
        return None


def test_a_real_prometheus_scrapes_it_with_the_examples(web: LabDaemon, tmp_path: Path) -> None:
    def value(query: str) -> float | None:
        found = asked("query", query=query)
        return float(found["result"][0]["value"][1]) if found and found["result"] else None

    with prometheus(tmp_path):
        assert until("a scrape", lambda: value('up{job="vmorch"} == 1')) == 1
        assert until("the service", lambda: value("vmorch_service_ready_instances")) == 1
        assert until(
            "the guest by its name", lambda: value('vmorch_instance_ready{instance="web-1"}')
        )
        rate = "rate(vmorch_instance_cpu_seconds_total[30s])"
        assert until("a rate of CPU", lambda: value(rate)) >= 0
        rules = [r for group in asked("rules")["groups"] for r in group["rules"]]
        assert rules
        until(
            "every rule evaluated",
            lambda: (
                True
                if all(
                    r["health"] == "ok"
                    for group in asked("rules")["groups"]
                    for r in group["rules"]
                )
                else None
            ),
            seconds=90,
        )


def test_a_qemu_that_stands_still_holds_up_nobodys_measures(web: LabDaemon) -> None:
    (domain,) = [row["domain"] for row in web.ps("-p", "seen")]
    pid = int(Path(f"/run/libvirt/qemu/{domain}.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(6)  # by now the monitor has been asked, and has not answered
        before = looks(web)
        until("further looks", lambda: True if looks(web) >= before + 3 else None, seconds=30)
        assert measured(web)["now"]["rss_bytes"] > 0
    finally:
        os.kill(pid, signal.SIGCONT)
