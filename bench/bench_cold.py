"""What vmorch adds to a cold boot, and what trimming the base takes away.

`cold.ratio`: from `vmorch up` of a built image to the first 200 through the proxy, against QEMU
alone with the same image and arguments, devices included. `cold.base_ratio`: our Debian base
against one that mmdebstrap made of the same services without trimming, both under QEMU alone.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.bare_guest import BareGuest, bare_guest
from bench.figure import Figure, compared
from bench.lab_daemon import LabDaemon, lab_daemon, made_bases
from bench.untrimmed import UntrimmedImage, make_untrimmed

ROUNDS = 5
PORT = 8000
BARE_PORT = 18800
HELLO = Path(__file__).parent.parent / "examples" / "hello"
LIMIT_SECONDS = 600.0


def run() -> Iterator[Figure]:
    with ExitStack() as stack:
        images = made_bases("debian-12")
        daemon = stack.enter_context(lab_daemon(images))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        project = one_instance(scratch)
        seconds_of_up(daemon, project)
        bare = bare_guest(daemon, "demo", scratch)
        daemon.cli("-p", "demo", "down")
        yield compared(
            "cold.ratio",
            lambda: seconds_of_up(daemon, project, then_down=True),
            lambda: seconds_of_bare(bare),
            rounds=ROUNDS,
        )
        untrimmed = make_untrimmed(scratch)
        yield compared(
            "cold.base_ratio",
            lambda: seconds_of_bare(bare),
            lambda: seconds_of_untrimmed(untrimmed, scratch),
            rounds=1,
        )


def one_instance(scratch: Path) -> Path:
    project = scratch / "hello"
    shutil.copytree(HELLO, project)
    file = project / "compose.yaml"
    file.write_text(file.read_text().replace("replicas: 2", "replicas: 1"))
    return project


def seconds_of_up(daemon: LabDaemon, project: Path, *, then_down: bool = False) -> float:
    start = time.monotonic()
    url = f"http://127.0.0.1:{daemon.settings.http_port}/"
    daemon.cli("up", "-d", cwd=project)
    wait_for_200(url, host="hello.demo.localhost")
    seconds = time.monotonic() - start
    if then_down:
        daemon.cli("-p", "demo", "down")
    return seconds


def seconds_of_bare(guest: BareGuest) -> float:
    return seconds_to_answer(guest.command(host_port=BARE_PORT, port=PORT))


def seconds_of_untrimmed(image: UntrimmedImage, scratch: Path) -> float:
    disk = scratch / "untrimmed-overlay.qcow2"
    disk.unlink(missing_ok=True)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image.disk, disk],
        check=True,
    )
    return seconds_to_answer(
        [
            *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,tb-size=128"),
            *("-cpu", "Nehalem", "-smp", "1", "-nodefaults", "-display", "none"),
            *("-serial", "null", "-device", "virtio-net-pci,netdev=n,romfile="),
            *("-device", "virtio-rng-pci"),
            *("-m", "512M", "-kernel", str(image.kernel), "-initrd", str(image.initrd)),
            *("-append", "root=/dev/vda rw console=ttyS0 quiet"),
            *drive(disk, "qcow2", "system"),
            *drive(image.seed, "raw", "seed", read_only=True),
            *("-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{BARE_PORT}-:{PORT}"),
        ]
    )


def drive(path: Path, kind: str, serial: str, *, read_only: bool = False) -> tuple[str, ...]:
    switch = ",readonly=on" if read_only else ""
    return (
        *("-drive", f"file={path},format={kind},if=none,id={serial}{switch}"),
        *("-device", f"virtio-blk-pci,drive={serial},serial={serial}"),
    )


def seconds_to_answer(command: Sequence[str]) -> float:
    """From QEMU's start to the first 200, then it is ended."""
    start = time.monotonic()
    process = subprocess.Popen(command)
    try:
        wait_for_200(f"http://127.0.0.1:{BARE_PORT}/")
        return time.monotonic() - start
    finally:
        process.kill()
        process.wait()


def wait_for_200(url: str, host: str = "localhost") -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end:
        try:
            request = urllib.request.Request(url, headers={"Host": host})
            with urllib.request.urlopen(request, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
    raise TimeoutError(f"{url} did not answer in {LIMIT_SECONDS:.0f} s")
