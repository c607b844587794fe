"""What happens to real guests, told apart: the right word, and ready again by itself."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

COMPOSE = """
name: harm
services:
  web:
    build: .
    expose: [8080]
    route: {host: web.harm.localhost}
    healthcheck: {test: ["HTTP", "/"], interval: 1s, timeout: 1s}
    stop_grace_period: 1s
    deploy:
      resources: {limits: {cpus: "1.0", memory: 96M}}
      restart_policy: {delay: 0.5s}
"""
DOCKERFILE = """
FROM tiny
COPY serve /srv/serve
EXPOSE 8080
CMD ["/srv/serve"]
"""
SERVE = """#!/usr/lib/vmorch/busybox sh
mkdir -p /srv/www
echo here > /srv/www/index.html
echo $$ > /srv/pid
[ -e /srv/greedy ] && rm /srv/greedy &&
    /usr/lib/vmorch/busybox awk 'BEGIN { x = "x"; while (1) x = x x }'
exec /usr/lib/vmorch/busybox httpd -f -p 8080 -h /srv/www
"""


@pytest.fixture(scope="module")
def web(daemon: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("harm")
    (directory / "compose.yaml").write_text(COMPOSE)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "serve").write_text(SERVE)
    (directory / "serve").chmod(0o755)
    daemon.cli("up", cwd=directory)
    yield daemon
    daemon.cli("-p", "harm", "down")


def row(daemon: Any) -> dict[str, Any]:
    (found,) = daemon.ps("-p", "harm")
    return dict(found)


def inside(daemon: Any, line: str) -> None:
    daemon.cli(
        *("-p", "harm", "exec", "-T", "--user", "root", "web-1"),
        *("/usr/lib/vmorch/busybox", "sh", "-c", line),
        check=False,
        timeout=60,
    )


def qemu(daemon: Any) -> psutil.Process:
    domain = row(daemon)["domain"]
    for process in psutil.process_iter(["cmdline"]):
        if any(f"guest={domain}," in word for word in process.info["cmdline"] or []):
            return process
    raise AssertionError(f"no QEMU process of {domain}")


def panic(daemon: Any) -> None:
    inside(daemon, "(sleep 1; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &")


def power_off(daemon: Any) -> None:
    inside(daemon, "(sleep 1; poweroff -f) >/dev/null 2>&1 &")


def kill_qemu(daemon: Any) -> None:
    qemu(daemon).kill()


def stop_qemu(daemon: Any) -> None:
    qemu(daemon).send_signal(signal.SIGSTOP)


def virsh_destroy(daemon: Any) -> None:
    subprocess.run(["virsh", "-q", "destroy", row(daemon)["domain"]], check=True)


def events(daemon: Any) -> list[dict[str, Any]]:
    text = daemon.cli("-p", "harm", "events", "-o", "json").stdout
    try:
        return list(json.loads(text))
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines()]


def eventually(condition: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.3)
    raise AssertionError(f"it did not come to pass that {what}")


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (panic, "kernel panicked"),
        (power_off, "powered itself off"),
        (kill_qemu, "QEMU died"),
        (virsh_destroy, "ended from outside"),
        (stop_qemu, "hung"),
    ],
)
def test_a_guest_s_end_is_told_and_mended(web: Any, harm: Callable[[Any], None], word: str) -> None:
    before, seen = row(web), len(events(web))
    harm(web)
    reasons: list[str] = []

    def dead() -> bool:
        found = row(web)
        reasons.append(found["reason"])
        return word in found["reason"]

    eventually(dead, f"ps says '{word}' (it said {sorted(set(reasons))})")

    def back() -> bool:
        found = row(web)
        return bool(found["ready"]) and found["restarts"] == before["restarts"] + 1

    eventually(back, "it is ready again")
    after = row(web)
    assert (after["instance"], after["address"]) == (before["instance"], before["address"])
    assert any(word in event["message"] for event in events(web)[seen:])


def test_memory_exhausted_is_told_though_the_service_comes_back(web: Any) -> None:
    before, seen = row(web), len(events(web))
    inside(web, "touch /srv/greedy; kill $(cat /srv/pid)")
    eventually(lambda: "out of memory" in row(web)["reason"], "ps says so")
    eventually(lambda: bool(row(web)["ready"]), "it is ready again")
    assert row(web)["restarts"] == before["restarts"]
    assert any("out of memory" in event["message"] for event in events(web)[seen:])
    assert "out of memory" in row(web)["reason"]


def test_haproxy_killed_is_back_within_a_second(web: Any) -> None:
    file = web.settings.proxy_run_dir / "haproxy.pid"
    (pid_file,) = [file] if file.exists() else list(Path(web.settings.run_dir).rglob("*.pid"))[:1]
    old = int(pid_file.read_text())
    children = psutil.Process(old).children(recursive=True)
    for process in (psutil.Process(old), *children):
        process.kill()

    def back() -> bool:
        try:
            new = int(pid_file.read_text())
        except (OSError, ValueError):
            return False
        return new != old and psutil.pid_exists(new)

    eventually(back, "HAProxy runs again", seconds=10)


def test_guests_outlive_libvirtd(web: Any) -> None:
    before, process = row(web), qemu(web).pid
    pid = int(Path("/run/libvirtd.pid").read_text())
    psutil.Process(pid).kill()
    subprocess.run(["libvirtd", "-d"], check=True)
    time.sleep(8)
    after = row(web)
    assert qemu(web).pid == process
    assert (after["started_at"], after["state"]) == (before["started_at"], "ready")
    power_off(web)  # and events come again
    eventually(lambda: "powered itself off" in row(web)["reason"], "its end is told")
    eventually(lambda: bool(row(web)["ready"]), "it is ready again")


def test_a_pause_keeps_the_guest_and_a_stop_its_disk(web: Any) -> None:
    before, process = row(web), qemu(web).pid
    web.cli("-p", "harm", "pause", timeout=60)
    assert row(web)["state"] == "paused"
    web.cli("-p", "harm", "unpause", timeout=60)
    assert (qemu(web).pid, row(web)["restarts"]) == (process, before["restarts"])
    inside(web, "echo kept > /srv/www/kept")
    web.cli("-p", "harm", "stop", timeout=90)
    assert (row(web)["state"], row(web)["reason"]) == ("stopped", "stopped by the user")
    web.cli("-p", "harm", "start", timeout=90)
    after = row(web)
    assert (after["state"], after["address"]) == ("ready", before["address"])
    assert after["restarts"] == before["restarts"] + 1


def test_whoever_suspends_a_guest_it_goes_on(web: Any) -> None:
    domain, before = row(web)["domain"], row(web)
    subprocess.run(["virsh", "-q", "suspend", domain], check=True)

    def runs() -> bool:
        state = subprocess.run(["virsh", "domstate", domain], capture_output=True, text=True)
        return "running" in state.stdout

    eventually(runs, "it runs again", seconds=15)
    eventually(lambda: bool(row(web)["ready"]), "it is ready again")
    assert row(web)["restarts"] == before["restarts"]
