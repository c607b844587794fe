"""Warm snapshots and forks as a user has them: real `tiny` guests, the whole daemon."""

from __future__ import annotations

import shutil
import stat
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.lab_daemon import LabDaemon, lab_daemon
from tests.real.test_crash import restart_to_die_at, wait_dead
from tests.real.test_fork import DRAWS, compile_draws, drawn

SECRET = "correct-horse-battery-staple"
FORKS = 10
SERVICES = 3
COMPOSE = """
name: warm
services:
  kept:
    build: .
    expose: [8080]
    route: {host: warm.localhost}
    healthcheck: {test: ["HTTP", "/"], interval: 1s}
    start: {fork: {service: keep}}
    environment: {GREETING: hello}
    deploy: {resources: {limits: {cpus: "0.50", memory: 96M}}}
  asked:
    build:
      dockerfile_inline: |
        FROM tiny
        ENV NAME=ada
        USER nobody
        HEALTHCHECK CMD [ "$$NAME" = ada ] && [ "$$(id -un)" = nobody ]
        CMD ["/bin/sleep", "1000000"]
    deploy: {resources: {limits: {memory: 96M}}}
  data:
    image: tiny
    command: [/bin/sh, -c, "cp /run/secrets/password /tmp/seen; exec sleep 1000000"]
    stop_grace_period: 1s
    secrets: [password]
    volumes: [{type: volume, source: data, target: /srv/data, per_instance: true}]
    deploy: {resources: {limits: {memory: 96M}}}
volumes:
  data: {size: 64M}
secrets:
  password: {file: ./password}
"""
DOCKERFILE = """
FROM tiny
COPY serve draws /usr/local/bin/
EXPOSE 8080
CMD ["/usr/local/bin/serve"]
"""
# The page holds what only the memory of the service knows: when it was started.
SERVE = """#!/bin/sh
mkdir -p /tmp/www
read -r up rest </proc/uptime
echo "$$ $up" >/tmp/www/index.html
exec httpd -f -p 8080 -h /tmp/www
"""


@pytest.fixture(scope="module")
def daemon(images_dir: Path) -> Iterator[LabDaemon]:
    with lab_daemon(images_dir, warm_snapshots=True) as own:
        yield own


@pytest.fixture(scope="module")
def project(daemon: LabDaemon, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One instance of each service, and the snapshots made; that of `asked` only when its image's
    check is asked as its image's user, with its environment."""
    directory = tmp_path_factory.mktemp("warm")
    (directory / "compose.yaml").write_text(COMPOSE)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "password").write_text(SECRET)
    serve = directory / "serve"
    serve.write_text(SERVE)
    serve.chmod(0o755)
    compile_draws(directory / "draws")
    daemon.cli("up", "--wait", cwd=directory)
    until(lambda: len(snapshots(daemon)) == SERVICES, "the snapshots are made", daemon)
    return directory


def snapshots(daemon: LabDaemon) -> list[Path]:
    return list(daemon.settings.state_dir.glob("snapshots/[!.]*"))


def until(condition: Any, what: str, daemon: LabDaemon, seconds: float = 180) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"not in time: {what}\n{events(daemon)}"
        time.sleep(0.2)


def events(daemon: LabDaemon) -> str:
    return daemon.cli("-p", "warm", "events").stdout


def scaled(daemon: LabDaemon, service: str, count: int) -> list[dict[str, Any]]:
    """The instances of a service, once that many are ready."""
    daemon.cli("-p", "warm", "scale", f"{service}={count}")

    def rows() -> list[dict[str, Any]]:
        return [row for row in daemon.ps("-p", "warm") if row["service"] == service]

    until(lambda: [r["ready"] for r in rows()] == [True] * count, f"{count} ready", daemon)
    return rows()


def inside(daemon: LabDaemon, instance: str, line: str) -> str:
    shell = ("/usr/lib/vmorch/busybox", "sh", "-c", line)
    words = ("-p", "warm", "exec", "-T", "--user", "root", instance, *shell)
    return daemon.cli(*words).stdout.strip()


def holds(snapshot: Path, text: str) -> bool:
    found = subprocess.run(["grep", "-rqaF", text, snapshot], capture_output=True)
    assert found.returncode in {0, 1}, found
    return found.returncode == 0


def test_forks_are_others_and_keep_their_service(daemon: LabDaemon, project: Path) -> None:
    rows = scaled(daemon, "kept", 1 + FORKS)
    assert [row["start"] for row in rows] == ["cold"] + ["fork"] * FORKS, events(daemon)
    forks = [row["instance"] for row in rows[1:]]
    for own in (
        "hostname",
        "cat /etc/machine-id",
        "cat /sys/class/net/eth0/address",
        "cat /etc/ssh/ssh_host_ed25519_key",
    ):
        assert len({inside(daemon, name, own) for name in forks}) == FORKS, own
    draws = [drawn(inside(daemon, name, f"{DRAWS} now")) for name in forks]
    assert len(set.union(*draws)) == sum(map(len, draws))
    domains = [row["domain"] for row in rows[1:]]
    uuids = {subprocess.check_output(["virsh", "domuuid", domain]) for domain in domains}
    assert len(uuids) == FORKS
    for name in forks:
        before = time.time()
        clock = float(inside(daemon, name, "date +%s"))
        assert before - 1.5 <= clock <= time.time() + 0.5
    # The pages of the forks are those of one and the same process of the snapshot.
    pages = {inside(daemon, name, "cat /tmp/www/index.html") for name in forks}
    assert len(pages) == 1
    assert pages != {inside(daemon, rows[0]["instance"], "cat /tmp/www/index.html")}
    assert inside(daemon, forks[0], "pidof httpd | wc -w") == "1"
    request = urllib.request.Request(
        f"http://127.0.0.1:{daemon.settings.http_port}/", headers={"Host": "warm.localhost"}
    )
    for _ in range(2 * len(rows)):
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
    scaled(daemon, "kept", 2)  # the others' CPUs are needed below


def test_a_fork_has_its_own_volume_and_secret_and_the_snapshot_neither(
    daemon: LabDaemon, project: Path
) -> None:
    inside(daemon, "data-1", "echo of the first >/srv/data/note; sync")
    rows = scaled(daemon, "data", 2)
    assert [row["start"] for row in rows] == ["cold", "fork"], events(daemon)
    assert inside(daemon, "data-2", "ls -A /srv/data; cat /tmp/seen") == SECRET
    inside(daemon, "data-2", "echo of the second >/srv/data/note; sync")
    assert inside(daemon, "data-1", "cat /srv/data/note") == "of the first"
    assert "/srv/data" in inside(daemon, "data-2", "cat /proc/mounts")
    own = daemon.settings.instance_dir("warm", "data-2") / "disk.qcow2"
    guests_group = own.stat().st_gid
    assert guests_group != 0
    assert any(holds(snapshot, "GREETING=hello") for snapshot in snapshots(daemon))
    for snapshot in snapshots(daemon):
        assert not holds(snapshot, SECRET)
        ram = snapshot / "ram"
        assert (stat.S_IMODE(ram.stat().st_mode), ram.stat().st_uid) == (0o600, 0)
        disk = (snapshot / "disk.qcow2").stat()
        assert (stat.S_IMODE(disk.st_mode), disk.st_uid, disk.st_gid) == (0o440, 0, guests_group)


def test_a_fork_restarts_from_its_own_disk(daemon: LabDaemon, project: Path) -> None:
    inside(daemon, "data-2", "echo on the disk >/root/note; sync")
    domain = f"{installation(daemon)}-warm-data-2"
    subprocess.run(["virsh", "-q", "destroy", domain], check=True)
    until(
        lambda: any(
            row["instance"] == "data-2" and row["ready"] and row["start"] == "cold"
            for row in daemon.ps("-p", "warm")
        ),
        "data-2 is back",
        daemon,
    )
    assert inside(daemon, "data-2", "cat /root/note /srv/data/note") == (
        "on the disk\nof the second"
    )


def anonymous_guests() -> list[str]:
    names = subprocess.check_output(["virsh", "list", "--all", "--name"], text=True).split()
    return [name for name in names if "-warm." in name]


def installation(daemon: LabDaemon) -> str:
    return (daemon.settings.state_dir / "installation").read_text().strip()[:6]


@pytest.mark.parametrize("point", ["warm:guest", "warm:saved"])
def test_a_daemon_killed_while_it_makes_a_snapshot_makes_it_anew(
    daemon: LabDaemon, project: Path, point: str
) -> None:
    present = {snapshot.name for snapshot in snapshots(daemon)}
    daemon.stop()
    shutil.rmtree(snapshots(daemon)[0])
    restart_to_die_at(daemon, point)
    wait_dead(daemon, point)
    daemon.start()
    until(lambda: {s.name for s in snapshots(daemon)} == present, "it is made anew", daemon)
    assert not list(daemon.settings.snapshots_dir.glob(".*"))
    assert anonymous_guests() == []


@pytest.mark.parametrize("point", ["fork:guest", "fork:told"])
def test_a_daemon_killed_while_it_forks_forks_anew(
    daemon: LabDaemon, project: Path, point: str
) -> None:
    before = scaled(daemon, "kept", 2)
    restart_to_die_at(daemon, point)
    daemon.client.scale("warm", {"kept": len(before) + 1})
    wait_dead(daemon, point)
    daemon.start()
    rows = scaled(daemon, "kept", len(before) + 1)
    assert (rows[-1]["start"], rows[-1]["restarts"]) == ("fork", 0), events(daemon)
    assert inside(daemon, rows[-1]["instance"], "hostname") == rows[-1]["instance"]
    ids = {inside(daemon, row["instance"], "cat /etc/machine-id") for row in rows}
    assert len(ids) == len(rows)
    scaled(daemon, "kept", len(before))


def test_a_full_disk_leaves_no_half_snapshot(daemon: LabDaemon, project: Path) -> None:
    present = {snapshot.name for snapshot in snapshots(daemon)}
    scaled(daemon, "kept", 1)  # its memory is for the anonymous guest
    place = daemon.settings.snapshots_dir
    small = ["mount", "-t", "tmpfs", "-o", "size=16M,mode=0711", "small", str(place)]
    subprocess.run(small, check=True)
    try:
        made = daemon.cli("-p", "warm", "snapshot", "create", "kept", check=False)
        assert made.returncode == 1, made
        assert "snapshot-failed" in events(daemon)
        assert snapshots(daemon) == []
        daemon.stop()
    finally:
        # Lazily: the guest of another try may still hold its files there.
        subprocess.run(["umount", "-l", str(place)], check=True)
    daemon.start()
    until(lambda: not anonymous_guests(), "no anonymous guest is left", daemon)
    assert {snapshot.name for snapshot in snapshots(daemon)} == present
    assert scaled(daemon, "kept", 2)[-1]["start"] == "fork"


def test_a_damaged_snapshot_is_told_and_then_given_up(daemon: LabDaemon, project: Path) -> None:
    for snapshot in snapshots(daemon):
        with (snapshot / "ram").open("r+b") as ram:
            ram.write(b"LibvirtQemudPart")
    rows = scaled(daemon, "kept", 3)
    assert rows[-1]["start"] == "cold"
    assert "it was not finished" in events(daemon)
    scaled(daemon, "kept", 5)
    until(lambda: len(snapshots(daemon)) == SERVICES, "another snapshot is made", daemon)
    assert "too many forks of it have failed" in events(daemon)
