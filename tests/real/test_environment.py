"""An environment of real `tiny` guests, from `up` to the last byte that `down` removes.

The first instance has booted, the second is a fork: whatever holds must hold for both.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.lab_daemon import LabDaemon, lab_daemon

COMPOSE = """
name: lab
services:
  web:
    build: .
    environment: {WHO: "the web"}
    expose: [8080]
    ports: ["18999:8080"]
    route: {host: web.lab.localhost}
    healthcheck: {test: ["HTTP", "/"], interval: 1s}
    stop_grace_period: 1s
    deploy: {replicas: 1, resources: {limits: {cpus: "0.50", memory: 96M}}}
"""
DOCKERFILE = """
FROM tiny
COPY serve /srv/serve
EXPOSE 8080
CMD ["/srv/serve"]
"""
SERVE = """#!/usr/lib/vmorch/busybox sh
mkdir -p /srv/www
echo "$WHO on $(hostname)" > /srv/www/index.html
echo "serving as $(hostname)"
exec /usr/lib/vmorch/busybox httpd -f -p 8080 -h /srv/www
"""
KILLED = 128 + signal.SIGKILL


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("web")
    (directory / "compose.yaml").write_text(COMPOSE)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "serve").write_text(SERVE)
    (directory / "serve").chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def daemon(images_dir: Path) -> Iterator[LabDaemon]:
    with lab_daemon(images_dir, warm_snapshots=True) as own:
        yield own


@pytest.fixture(scope="module")
def web(daemon: Any, project: Path) -> Iterator[Any]:
    daemon.cli("up", cwd=project)
    snapshots = daemon.settings.snapshots_dir
    eventually(lambda: any(snapshots.glob("[!.]*")), "a warm snapshot is made")
    file = project / "compose.yaml"
    file.write_text(file.read_text().replace("replicas: 1", "replicas: 2"))
    daemon.cli("up", cwd=project)
    assert [row["start"] for row in rows(daemon).values()] == ["cold", "fork"]
    yield daemon
    daemon.cli("-p", "lab", "down")


def rows(daemon: Any) -> dict[str, dict[str, Any]]:
    return {row["instance"]: row for row in daemon.ps("-p", "lab")}


def eventually(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.3)
    raise AssertionError(f"it did not come to pass that {what}")


def fetch(daemon: Any, host: str = "web.lab.localhost") -> str:
    url = f"http://127.0.0.1:{daemon.settings.http_port}/"
    request = urllib.request.Request(url, headers={"Host": host})
    with urllib.request.urlopen(request, timeout=20) as answer:
        body: bytes = answer.read()
    return body.decode().strip()


def qemu(daemon: Any, instance: str) -> psutil.Process:
    domain = rows(daemon)[instance]["domain"]
    for process in psutil.process_iter(["cmdline"]):
        if any(f"guest={domain}," in word for word in process.info["cmdline"] or []):
            return process
    raise AssertionError(f"no QEMU process of {domain}")


def inside(daemon: Any, instance: str, line: str) -> subprocess.CompletedProcess[str]:
    done: subprocess.CompletedProcess[str] = daemon.cli(
        *("-p", "lab", "exec", "-T", "--user", "root", instance),
        *("/usr/lib/vmorch/busybox", "sh", "-c", line),
        check=False,
    )
    return done


def test_both_instances_answer_through_the_proxy(web: Any) -> None:
    names = {fetch(web) for _ in range(20)}
    assert names == {"the web on web-1", "the web on web-2"}


def test_curl_verifies_a_route_with_the_local_authority(web: Any, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text(web.cli("tls", "ca").stdout)
    host, port = "web.lab.localhost", web.settings.https_port
    done = subprocess.run(
        [
            *("curl", "-sS", "--http2", "--noproxy", "*", "--cacert", str(authority)),
            *("--resolve", f"{host}:{port}:127.0.0.1", "-w", "%{http_version} %{http_code}"),
            f"https://{host}:{port}/",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("the web on web-"), done.stderr
    assert done.stdout.endswith("2 200")


def test_a_published_port_leads_to_the_service(web: Any) -> None:
    with urllib.request.urlopen("http://127.0.0.1:18999/", timeout=20) as answer:
        assert b"the web on web-" in answer.read()


def test_ps_says_what_it_promises(web: Any) -> None:
    row = rows(web)["web-1"]
    assert row["environment"] == "lab"
    assert row["service"] == "web"
    assert row["state"] == "ready"
    assert row["ready"] is True
    assert row["cpus"] == 0.5
    assert row["memory_bytes"] == 96 * 1024**2
    assert row["start"] == "cold"
    assert row["revision"] == 1
    assert row["image"].startswith("sha256:")
    assert {"address", "started_at", "reason"} <= row.keys()


def test_the_service_s_output_is_kept(web: Any) -> None:
    assert "serving as web-1" in web.cli("-p", "lab", "logs", "web").stdout


def test_exec_runs_inside_and_tells_its_exit_code(web: Any) -> None:
    assert inside(web, "web-2", "hostname").stdout.strip() == "web-2"
    assert inside(web, "web-2", "exit 7").returncode == 7


def test_names_lead_to_the_service_and_to_instances(web: Any) -> None:
    through = inside(web, "web-1", "wget -q -O - http://web:8080/")
    assert "the web on web-" in through.stdout
    direct = inside(web, "web-1", "wget -q -O - http://web-2:8080/")
    assert direct.stdout.strip() == "the web on web-2"


@pytest.mark.parametrize("instance", ["web-1", "web-2"])
def test_half_a_core_is_half_a_core(web: Any, instance: str) -> None:
    """As the host sees it: the whole of QEMU's processor time, over 20 s of a busy loop."""
    inside(web, instance, "while :; do :; done >/dev/null 2>&1 & echo $! > /tmp/busy")
    try:
        process = qemu(web, instance)
        time.sleep(2)
        before, start = process.cpu_times(), time.monotonic()
        time.sleep(20)
        after, end = process.cpu_times(), time.monotonic()
    finally:
        inside(web, instance, "kill $(cat /tmp/busy)")
    used = (after.user + after.system - before.user - before.system) / (end - start)
    assert used == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("instance", ["web-1", "web-2"])
def test_memory_beyond_the_cap_costs_the_process_alone(web: Any, instance: str) -> None:
    greedy = """awk 'BEGIN { x = "x"; while (1) x = x x }'"""
    assert inside(web, instance, greedy).returncode == KILLED
    assert inside(web, "web-1", "hostname").stdout.strip() == "web-1"
    assert inside(web, "web-2", "hostname").stdout.strip() == "web-2"
    assert {row["restarts"] for row in rows(web).values()} == {0}


@pytest.mark.parametrize("instance", ["web-1", "web-2"])
def test_layers_belong_to_root_and_guests_cannot_write_them(web: Any, instance: str) -> None:
    layers = list((web.settings.images_dir / "layers").glob("*.qcow2"))
    assert layers
    user = qemu(web, instance).uids().effective
    assert user != 0
    for layer in layers:
        assert layer.stat().st_uid == 0
        wrote = subprocess.run(
            ["setpriv", f"--reuid={user}", "--clear-groups", "sh", "-c", f"echo >> {layer}"],
            capture_output=True,
        )
        assert wrote.returncode != 0


def test_a_guest_reaches_nothing_else_of_the_host(web: Any) -> None:
    listener = subprocess.Popen(
        ["python3", "-m", "http.server", "9955", "--bind", "0.0.0.0"],
        cwd="/usr/share/doc",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        addresses = [
            address["local"]
            for link in json.loads(subprocess.check_output(["ip", "-j", "-4", "address"]))
            for address in link["addr_info"]
            if address["local"] != "127.0.0.1"
        ]
        eventually(lambda: _open("127.0.0.1", 9955), "the listener listens")
        assert addresses
        for address in addresses:
            tried = inside(web, "web-1", f"timeout 4 wget -q -O /dev/null http://{address}:9955/")
            assert tried.returncode != 0, address
    finally:
        listener.kill()
        listener.wait()


def test_a_guest_reaches_no_other_environment(web: Any, project: Path) -> None:
    """The same file again: the same inner addresses, a service that listens, and no way there."""
    again = COMPOSE.replace('    ports: ["18999:8080"]\n', "").replace("web.lab", "web.other")
    (project / "again.yaml").write_text(again.replace("replicas: 2", "replicas: 1"))
    web.cli("-p", "other", "up", "-f", "again.yaml", cwd=project)
    try:
        (other,) = web.ps("-p", "other")
        assert "the web on web-1" in fetch(web, host="web.other.localhost")
        tried = inside(web, "web-1", f"timeout 4 wget -q -O - http://{other['address']}:8080/")
        assert tried.returncode != 0
        own = inside(web, "web-2", f"wget -q -O - http://{other['inner_address']}:8080/")
        assert own.stdout.strip() == "the web on web-1", "the address leads to one's own web-1"
    finally:
        web.cli("-p", "other", "down")
    assert set(rows(web)) == {"web-1", "web-2"}


def _open(address: str, port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://{address}:{port}/", timeout=2).close()
    except OSError:
        return False
    return True


def test_killing_a_guest_brings_it_back_as_itself(web: Any) -> None:
    before = rows(web)["web-2"]
    qemu(web, "web-2").kill()

    def back() -> bool:
        row = rows(web).get("web-2")
        return row is not None and row["ready"] and row["restarts"] == before["restarts"] + 1

    eventually(back, "web-2 is ready again")
    after = rows(web)["web-2"]
    assert after["address"] == before["address"]
    told = web.cli("-p", "lab", "events").stdout
    assert "QEMU" in told


def test_a_killed_daemon_finds_its_guests_again(web: Any) -> None:
    processes = {name: qemu(web, name).pid for name in rows(web)}
    started = {name: row["started_at"] for name, row in rows(web).items()}
    web.kill()
    assert "the web on" in fetch(web)
    web.start()
    time.sleep(3)
    assert {name: qemu(web, name).pid for name in rows(web)} == processes
    assert {name: row["started_at"] for name, row in rows(web).items()} == started
    assert all(row["ready"] for row in rows(web).values())


def test_scaling_makes_new_ordinals_and_takes_the_youngest(web: Any) -> None:
    web.cli("-p", "lab", "scale", "web=3")
    eventually(lambda: rows(web).get("web-3", {}).get("ready", False), "web-3 is ready")
    web.cli("-p", "lab", "scale", "web=1")
    eventually(lambda: set(rows(web)) == {"web-1"}, "only web-1 is left")
    web.cli("-p", "lab", "scale", "web=2")
    eventually(lambda: rows(web).get("web-4", {}).get("ready", False), "web-4 is ready")


def test_a_new_revision_replaces_the_old_without_a_failed_request(web: Any, project: Path) -> None:
    file = project / "compose.yaml"
    file.write_text(file.read_text().replace("the web", "the new web"))
    update = subprocess.Popen(
        [sys.executable, "-m", "vmorch.cli.main", "up"],
        cwd=project,
        env=web.environment,
        stdout=subprocess.DEVNULL,
    )
    answers = []
    while update.poll() is None:
        answers.append(fetch(web))  # raises on anything but 200
        time.sleep(0.05)
    assert update.returncode == 0
    eventually(lambda: len(rows(web)) == 2, "the old ones are gone")
    assert {row["revision"] for row in rows(web).values()} == {2}
    assert {answer.split(" on ")[0] for answer in answers} >= {"the web"}
    assert fetch(web).startswith("the new web on")


def test_an_unknown_host_is_not_found(web: Any) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetch(web, host="nobody.localhost")
    assert refused.value.code == 404


def test_down_leaves_nothing(web: Any, project: Path) -> None:
    short = web.client.version().installation[:6]
    web.cli("-p", "lab", "down")
    assert web.cli("-p", "lab", "ps", check=False).returncode == 4
    domains = subprocess.check_output(["virsh", "list", "--all", "--name"], text=True)
    assert short not in domains
    links = subprocess.check_output(["ip", "link"], text=True)
    assert short not in links
    assert short not in subprocess.check_output(["ip", "netns"], text=True)
    assert not (web.settings.state_dir / "environments" / "lab").exists()
    (project / "compose.yaml").write_text(COMPOSE)
    web.cli("up", "-d", cwd=project)
