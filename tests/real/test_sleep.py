"""Sleep and wake as a user has them: a real `tiny` guest, the whole daemon."""

from __future__ import annotations

import socket
import stat
import struct
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import libvirt
import pytest

from bench.lab_daemon import LabDaemon

PORT = 18998
COMPOSE = f"""
name: nap
services:
  web:
    build: .
    ports: ["{PORT}:8080"]
    healthcheck: {{test: ["HTTP", "/"], interval: 1s}}
    stop_grace_period: 1s
    volumes: [{{type: volume, source: data, target: /srv/data}}]
    deploy: {{resources: {{limits: {{cpus: "0.50", memory: 96M}}}}}}
volumes:
  data: {{size: 64M}}
"""
DOCKERFILE = """
FROM tiny
COPY serve /usr/local/bin/serve
EXPOSE 8080
CMD ["/usr/local/bin/serve"]
"""
SERVE = """#!/bin/sh
mkdir -p /tmp/www
echo "$$" >/tmp/www/index.html
exec httpd -f -p 8080 -h /tmp/www
"""
IDENTITY = (
    "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id /run/nonce; "
    "cat /srv/data/kept; pidof httpd"
)


@pytest.fixture(scope="module")
def project(daemon: LabDaemon, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("nap")
    (directory / "compose.yaml").write_text(COMPOSE)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "serve").write_text(SERVE)
    (directory / "serve").chmod(0o755)
    daemon.cli("up", cwd=directory)
    inside(daemon, "echo only in memory >/run/nonce; echo on the volume >/srv/data/kept")
    return directory


def inside(daemon: LabDaemon, line: str) -> str:
    shell = ("/usr/lib/vmorch/busybox", "sh", "-c", line)
    words = ("-p", "nap", "exec", "-T", "--user", "root", "web-1", *shell)
    return daemon.cli(*words).stdout.strip()


def row(daemon: LabDaemon) -> dict[str, Any]:
    (only,) = daemon.ps("-p", "nap")
    return only


def directory_of(daemon: LabDaemon) -> Path:
    return daemon.settings.instance_dir("nap", "web-1")


def memory_files(daemon: LabDaemon) -> list[str]:
    return sorted(path.name for path in directory_of(daemon).glob("ram*"))


def events(daemon: LabDaemon) -> str:
    return daemon.cli("-p", "nap", "events").stdout


def fetched() -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=20) as answer:
        return str(answer.read().decode().strip())


def limits(domain: str) -> tuple[int, bool]:
    """The whole domain's CPU quota, and whether its memory is bounded."""
    connection = libvirt.open()
    try:
        found = connection.lookupByName(domain)
        quota = found.schedulerParameters()["global_quota"]
        return quota, found.memoryParameters()["hard_limit"] < 2**40
    finally:
        connection.close()


def test_it_goes_on_where_it_was(daemon: LabDaemon, project: Path) -> None:
    before, page = inside(daemon, IDENTITY), fetched()
    with socket.create_connection(("127.0.0.1", PORT), timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")  # and the rest of it never comes
        daemon.cli("-p", "nap", "stop", "--sleep")
        assert client.recv(1) == b""  # not left to its time-outs
    asleep = row(daemon)
    assert (asleep["state"], memory_files(daemon)) == ("sleeping", ["ram"])
    saved = (directory_of(daemon) / "ram").stat()
    assert (stat.S_IMODE(saved.st_mode), saved.st_uid) == (0o600, 0)
    assert libvirt.open().listDomainsID() == []
    refused = daemon.cli("-p", "nap", "exec", "web-1", "true", check=False)
    assert (refused.returncode, "vmorch start web-1" in refused.stderr) == (7, True)
    time.sleep(5)

    daemon.cli("-p", "nap", "start")
    awake = row(daemon)
    assert (awake["state"], awake["start"], awake["restarts"]) == ("ready", "resume", 0)
    assert memory_files(daemon) == []
    earliest = time.time()
    told = int(inside(daemon, "date +%s"))
    assert earliest - 2 <= told <= time.time() + 1
    assert (inside(daemon, IDENTITY), fetched()) == (before, page)
    assert limits(awake["domain"]) == (50_000, True)
    assert "instance-woken" in events(daemon)


@pytest.mark.parametrize("point", ["sleep:synced", "sleep:saved", "sleep:recorded"])
def test_a_daemon_killed_on_the_way_into_sleep(
    daemon: LabDaemon, project: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    before = inside(daemon, IDENTITY)
    die_at(daemon, monkeypatch, point, "stop", "--sleep")
    until_asleep(daemon)
    assert (libvirt.open().listDomainsID(), memory_files(daemon)) == ([], ["ram"])
    daemon.cli("-p", "nap", "start")
    assert (row(daemon)["start"], inside(daemon, IDENTITY)) == ("resume", before)
    assert memory_files(daemon) == []


@pytest.mark.parametrize("point", ["wake:intended", "wake:restored", "wake:resumed", "wake:told"])
def test_a_daemon_killed_on_the_way_out_of_sleep(
    daemon: LabDaemon, project: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    before = inside(daemon, IDENTITY)
    daemon.cli("-p", "nap", "stop", "--sleep")
    die_at(daemon, monkeypatch, point, "start")
    daemon.cli("-p", "nap", "start")
    assert inside(daemon, IDENTITY) == before
    assert memory_files(daemon) == []


def until_asleep(daemon: LabDaemon, seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while row(daemon)["state"] != "sleeping":
        assert time.monotonic() < limit, events(daemon)
        time.sleep(0.2)


def die_at(daemon: LabDaemon, monkeypatch: pytest.MonkeyPatch, point: str, *order: str) -> None:
    """Give an order to a daemon that dies there, as by kill -9, and start the next one."""
    daemon.stop()
    with monkeypatch.context() as patch:
        patch.setenv("VMORCH_CRASH_AT", point)
        daemon.start()
        daemon.cli("-p", "nap", *order, "--detach")
        assert daemon.process is not None
        daemon.process.wait(timeout=120)
    daemon.start()


def test_a_full_disk_keeps_it_awake(daemon: LabDaemon, project: Path) -> None:
    before = inside(daemon, IDENTITY)
    place = directory_of(daemon)
    # The guest has its files open; only what is new finds no room.
    small = ["mount", "-t", "tmpfs", "-o", "size=4M,mode=0711", "small", str(place)]
    subprocess.run(small, check=True)
    try:
        slept = daemon.cli("-p", "nap", "stop", "--sleep", check=False)
        assert memory_files(daemon) == []
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert (slept.returncode, "could not be put to sleep" in slept.stderr) == (1, True), slept
    assert "sleep-failed" in events(daemon)
    daemon.cli("-p", "nap", "wait")
    assert (inside(daemon, IDENTITY), memory_files(daemon)) == (before, [])


def test_damaged_memory_is_given_up_for_a_boot(daemon: LabDaemon, project: Path) -> None:
    daemon.cli("-p", "nap", "stop", "--sleep")
    ram = directory_of(daemon) / "ram"
    with ram.open("r+b") as file:
        stream = 92 + struct.unpack("<I", file.read(24)[20:])[0]
        file.seek(stream)
        file.write(bytes(4096))
    daemon.cli("-p", "nap", "start")
    awake = row(daemon)
    assert (awake["state"], awake["start"], awake["restarts"]) == ("ready", "cold", 1)
    assert "memory-lost" in events(daemon)
    assert memory_files(daemon) == []
    assert inside(daemon, "test -e /run/nonce || cat /srv/data/kept") == "on the volume"
