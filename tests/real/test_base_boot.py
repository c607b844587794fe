"""The bases boot, become who the seed says, say how they are, and end; under bare QEMU, with a
seed made by hand: what the guest contract says, and not what our own writers do.

Run inside the lab. `images_dir` holds the made bases (tests/real/conftest.py).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import re
import socket
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.lab_daemon import made_bases
from vmorch.images.bases import Base, BaseCatalog
from vmorch.resources import data_dir

MAC = "52:54:00:12:34:56"
MACHINE_ID = "0123456789abcdef0123456789abcdef"
SETTINGS = {
    "INSTANCE_ID": "hello-1-abc",
    "HOST_NAME": "hello-1",
    "MACHINE_ID": MACHINE_ID,
    "MAC": MAC,
    "ADDRESS": "10.0.2.15",
    "PREFIX": "24",
    "GATEWAY": "10.0.2.2",
    "NAME_SERVERS": "10.0.2.3",
    "SEARCH": "demo.vmorch",
}
BOOT_SECONDS = 240.0
BUSYBOX = "/usr/lib/vmorch/busybox"
HTTPD = [BUSYBOX, "httpd", "-f", "-p", "8080", "-h", "/srv"]
PYTHON = ["python3", "-m", "http.server", "8080", "--directory", "/srv"]
LOG_LINE = re.compile(r"\d+\.\d{6} hello-1 service(\[\d+\])?: ")


def bundle(argv: list[str], more: dict[str, bytes] | None = None) -> bytes:
    """`vmorch.tar` by hand: what the guest contract says and not what our writer does."""
    members = {
        "version": b"1",
        "random": os.urandom(64),
        "settings": "".join(f"{key}='{value}'\n" for key, value in SETTINGS.items()).encode(),
        "root/etc/hostname": b"hello-1\n",
        "root/etc/machine-id": f"{MACHINE_ID}\n".encode(),
        "root/etc/hosts": b"127.0.0.1 localhost\n10.0.2.15 hello-1\n",
        "root/etc/resolv.conf": b"nameserver 10.0.2.3\n",
        "root/srv/index.html": b"hello from the bundle\n",
        **(more or {}),
    }
    if argv:
        members["service/argv"] = b"".join(word.encode() + b"\0" for word in argv)
        members["service/environment"] = b"GREETING=hello world\0"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o600 if name.endswith("_key") else 0o644
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write_seed(directory: Path, content: bytes, user_data: str = "") -> Path:
    files = directory / "seed"
    files.mkdir()
    (files / "vmorch.tar").write_bytes(content)
    (files / "meta-data").write_text(f"instance-id: {SETTINGS['INSTANCE_ID']}\n")
    (files / "user-data").write_text(user_data or "#cloud-config\n{}\n")
    seed = directory / "seed.iso"
    command = ["genisoimage", "-quiet", "-volid", "cidata", "-joliet", "-rock"]
    subprocess.run([*command, "-o", str(seed), str(files)], check=True)
    os.truncate(seed, 1024**2)
    return seed


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Guest:
    """A running guest: its agent, its HTTP port, its logs."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes], port: int) -> None:
        self.directory = directory
        self.process = process
        self.port = port
        self.started = time.monotonic()

    def log(self) -> str:
        return (self.directory / "service.log").read_text(errors="replace")

    def console(self) -> str:
        return (self.directory / "console.log").read_text(errors="replace")

    def agent(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """One call; a channel that nobody answers yet is a TimeoutError."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(20)
            channel.connect(str(self.directory / "agent.sock"))
            request = {"execute": command, "arguments": arguments or {}}
            channel.sendall(json.dumps(request).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                piece = channel.recv(65536)
                assert piece, "the agent's channel was closed"
                answer += piece
        return json.loads(answer)["return"]

    def run(self, *argv: str, seconds: float = 60) -> tuple[int, str]:
        arguments = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        pid = self.agent("guest-exec", arguments)["pid"]
        limit = time.monotonic() + seconds
        while True:
            status = self.agent("guest-exec-status", {"pid": pid})
            if status["exited"]:
                output = base64.b64decode(status.get("out-data", ""))
                return status.get("exitcode", -1), output.decode()
            assert time.monotonic() < limit, f"{argv} did not end in time"
            time.sleep(0.2)

    def shell(self, line: str) -> str:
        code, output = self.run("/bin/sh", "-c", line)
        assert code == 0, f"{line!r} ended with {code}: {output}"
        return output.strip()

    def status(self) -> dict[str, Any]:
        code, output = self.run("/usr/lib/vmorch/vmorch-identity", "status")
        assert code == 0
        return dict(json.loads(output))

    def wait_for_agent(self) -> float:
        while True:
            try:
                self.agent("guest-ping")
                return time.monotonic() - self.started
            except (TimeoutError, AssertionError, OSError):
                self.check_alive()

    def wait_for_http(self) -> tuple[float, str]:
        url = f"http://127.0.0.1:{self.port}/index.html"
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return time.monotonic() - self.started, answer.read().decode()
            except OSError:
                self.check_alive()
                time.sleep(0.1)

    def wait_for_status(self, key: str, *values: str) -> dict[str, Any]:
        while (status := self.status())[key] not in values:
            self.check_alive()
            time.sleep(1)
        return status

    def wait_for_log(self, text: str) -> str:
        while text not in self.log():
            self.check_alive()
            time.sleep(0.2)
        return next(line for line in self.log().splitlines() if text in line)

    def shut_down(self) -> None:
        """By the agent, which does not answer this call."""
        with contextlib.suppress(AssertionError, OSError):
            self.agent("guest-shutdown")

    def monitor(self, command: str) -> None:
        """One command of QEMU's own monitor."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(str(self.directory / "qmp.sock"))
            answers = channel.makefile()
            for name in ("qmp_capabilities", command):
                channel.sendall(json.dumps({"execute": name}).encode())
                # Closed too early, the channel takes the command along.
                while '"return"' not in answers.readline():
                    pass

    def events(self) -> list[dict[str, Any]]:
        """What QEMU tells of this guest until it ends."""
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(BOOT_SECONDS)
            channel.connect(str(self.directory / "qmp.sock"))
            channel.sendall(b'{"execute": "qmp_capabilities"}')
            told = b""
            while piece := channel.recv(65536):
                told += piece
        return [answer for line in told.splitlines() if "event" in (answer := json.loads(line))]

    def check_alive(self) -> None:
        tail = self.console()[-3000:]
        assert self.process.poll() is None, f"the guest ended:\n{tail}"
        assert time.monotonic() - self.started < BOOT_SECONDS, f"no answer in time:\n{tail}"

    def wait_for_end(self) -> int:
        return self.process.wait(timeout=BOOT_SECONDS)


@contextmanager
def booted(
    base: Base,
    images: Path,
    directory: Path,
    seed: Path,
    *,
    memory: str,
    disk_size: str = "",
    cloud_init: bool = False,
) -> Iterator[Guest]:
    """A guest with the fixed device layout of docs/design, on user-mode networking."""
    disk = directory / "disk.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base.disk)]
    subprocess.run([*create, str(disk), *([disk_size] if disk_size else [])], check=True)
    for spare in (0, 1):
        (directory / f"spare{spare}").write_bytes(b"\0" * 1024**2)
    port = free_port()
    drives = {"system": (disk, "qcow2", "off"), "seed": (seed, "raw", "on")}
    drives |= {f"spare{n}": (directory / f"spare{n}", "raw", "on") for n in (0, 1)}
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,tb-size=128"]
    command += ["-cpu", "max", "-m", memory, "-smp", "1", "-nodefaults", "-no-user-config"]
    command += ["-display", "none", "-no-reboot"]
    command += ["-kernel", str(images / base.boot.kernel)]
    command += ["-initrd", str(images / base.boot.initrd)]
    command += ["-append", base.boot.command_line + ("" if cloud_init else " cloud-init=disabled")]
    for name, (file, kind, read_only) in drives.items():
        command += ["-drive", f"if=none,id={name},file={file},format={kind},readonly={read_only}"]
        command += ["-device", f"virtio-blk-pci,drive={name},serial=vmorch-{name}"]
    forward = f"hostfwd=tcp:127.0.0.1:{port}-:8080"
    command += ["-netdev", f"user,id=net,{forward}"]
    command += ["-device", f"virtio-net-pci,netdev=net,mac={MAC}"]
    command += ["-object", "rng-random,id=rng,filename=/dev/urandom"]
    command += ["-device", "virtio-rng-pci,rng=rng", "-device", "virtio-balloon-pci"]
    command += ["-device", "virtio-serial-pci"]
    command += ["-chardev", f"socket,id=agent,path={directory}/agent.sock,server=on,wait=off"]
    command += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
    command += ["-chardev", f"file,id=log,path={directory}/service.log"]
    command += ["-device", "virtserialport,chardev=log,name=org.vmorch.log.0"]
    command += ["-serial", f"file:{directory}/console.log", "-device", "pvpanic"]
    command += ["-qmp", f"unix:{directory}/qmp.sock,server=on,wait=off"]
    for log in ("service.log", "console.log"):
        (directory / log).touch()
    process = subprocess.Popen(command)
    while not (directory / "qmp.sock").exists():
        assert process.poll() is None, "QEMU does not start"
        time.sleep(0.02)
    try:
        yield Guest(directory, process, port)
    finally:
        process.kill()
        process.wait()


def base(images_dir: Path, name: str) -> Base:
    catalog = BaseCatalog(images_dir, data_dir("images"))
    return asyncio.run(catalog.ensure(name, lambda progress: None))


@pytest.fixture
def tiny(images_dir: Path) -> Base:
    return base(images_dir, "tiny")


@pytest.fixture(params=["debian-12", pytest.param("debian-13", marks=pytest.mark.long)])
def debian(request: pytest.FixtureRequest) -> Base:
    return base(made_bases(request.param), request.param)


def report(record: pytest.FixtureRequest, name: str, seconds: float) -> None:
    record.node.user_properties.append((name, round(seconds, 1)))


def test_tiny_serves_as_the_instance_that_its_seed_names(
    tiny: Base, images_dir: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = write_seed(tmp_path, bundle(HTTPD))
    with booted(tiny, images_dir, tmp_path, seed, memory="96M", disk_size="17G") as guest:
        seconds, body = guest.wait_for_http()
        report(request, "tiny_http_seconds", seconds)
        assert body == "hello from the bundle\n"
        report(request, "tiny_agent_seconds", guest.wait_for_agent())
        assert guest.shell("hostname; cat /etc/machine-id; cat /sys/class/net/eth0/address") == (
            f"hello-1\n{MACHINE_ID}\n{MAC}"
        )
        # `disk:` made the overlay 1 GiB larger than the base.
        blocks = int(guest.shell("stat -f -c %b /"))
        assert blocks * 4096 > 16.5 * 1024**3
        assert guest.status() == {
            "instance_id": "hello-1-abc",
            "service": "active",
            "exit_code": None,
            "cloud_init": "off",
            "cloud_init_detail": "",
        }
        before = guest.shell("cat /run/vmorch/service.state")
        assert guest.run("/usr/lib/vmorch/vmorch-identity", "apply", "--fork", "2000000000")[0] == 0
        assert guest.shell("date +%s").startswith("20000000")
        guest.wait_for_http()
        assert guest.shell("cat /run/vmorch/service.state") != before
        guest.shut_down()
        assert guest.wait_for_end() == 0


def test_tiny_logs_with_time_and_tells_how_its_service_ended(
    tiny: Base, images_dir: Path, tmp_path: Path
) -> None:
    line = "echo as $(id -u):$(id -g) in $PWD, $GREETING; exit 7"
    service = {
        "service/user": b"nobody:tty",
        "service/directory": b"/srv",
        "service/restart": b"none",
    }
    seed = write_seed(tmp_path, bundle(["sh", "-c", line], service))
    with booted(tiny, images_dir, tmp_path, seed, memory="96M") as guest:
        logged = guest.wait_for_log("in /srv")
        assert LOG_LINE.match(logged)
        assert logged.endswith("service: as 65534:5 in /srv, hello world")
        guest.wait_for_agent()
        status = guest.wait_for_status("service", "failed", "exited")
        assert (status["service"], status["exit_code"]) == ("failed", 7)
        assert "ended with exit code 7" in guest.console()
        guest.monitor("system_powerdown")
        assert guest.wait_for_end() == 0


def test_a_panic_in_the_guest_reaches_the_host(
    tiny: Base, images_dir: Path, tmp_path: Path
) -> None:
    seed = write_seed(tmp_path, bundle(["sh", "-c", "sleep 1; echo c >/proc/sysrq-trigger"]))
    with booted(tiny, images_dir, tmp_path, seed, memory="96M") as guest:
        events = guest.events()
        guest.wait_for_end()
        assert "GUEST_PANICKED" in [event["event"] for event in events]


def test_debian_serves_logs_and_is_reachable_by_ssh(
    debian: Base, images_dir: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    files = {
        "root/etc/ssh/ssh_host_ed25519_key": key.read_bytes(),
        "root/etc/ssh/ssh_host_ed25519_key.pub": key.with_suffix(".pub").read_bytes(),
    }
    seed = write_seed(tmp_path, bundle(PYTHON, files))
    with booted(debian, images_dir, tmp_path, seed, memory="256M", disk_size="17G") as guest:
        seconds, body = guest.wait_for_http()
        report(request, "debian_http_seconds", seconds)
        assert body == "hello from the bundle\n"
        report(request, "debian_agent_seconds", guest.wait_for_agent())
        assert LOG_LINE.match(guest.wait_for_log('"GET /index.html'))
        status = guest.status()
        assert (status["service"], status["cloud_init"]) == ("active", "off")
        assert guest.shell("systemctl --failed --plain --no-legend") == ""
        assert guest.shell("systemctl is-active multi-user.target") == "active"
        assert guest.shell("hostname; cat /etc/machine-id") == f"hello-1\n{MACHINE_ID}"
        assert int(guest.shell("stat -f -c %b /")) * 4096 > 16.5 * 1024**3
        offered = guest.shell("ssh-keyscan -T 60 -t ed25519 127.0.0.1 2>/dev/null")
        assert key.with_suffix(".pub").read_text().split()[1] in offered
        guest.shut_down()
        assert guest.wait_for_end() == 0


def test_debian_tells_what_went_wrong_in_the_users_cloud_init(
    debian: Base, images_dir: Path, tmp_path: Path
) -> None:
    user_data = '#cloud-config\nruncmd:\n- echo words of runcmd\n- [sh, -c, "exit 3"]\n'
    service = {"service/restart": b"none", "service/user": b"nobody"}
    argv = ["sh", "-c", "echo service as $(id -un); exit 0"]
    seed = write_seed(tmp_path, bundle(argv, service), user_data)
    with booted(debian, images_dir, tmp_path, seed, memory="256M", cloud_init=True) as guest:
        guest.wait_for_log("words of runcmd")
        guest.wait_for_agent()
        status = guest.wait_for_status("cloud_init", "done", "error")
        assert status["cloud_init"] == "error"
        assert "scripts-user" in status["cloud_init_detail"]
        assert (status["service"], status["exit_code"]) == ("exited", 0)
        assert "service as nobody" in guest.log()
        guest.monitor("system_powerdown")
        assert guest.wait_for_end() == 0
