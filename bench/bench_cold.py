"""What vmorch adds to a cold boot, and what trimming the base takes away.

`cold.ratio`: from `vmorch up` of a built image to the first 200 through the proxy, against the
same image, kernel and arguments under bare QEMU. `cold.base_ratio`: our Debian base against one
that mmdebstrap made of the same services without trimming, both under bare QEMU.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.figure import Figure, compared
from bench.lab_daemon import LabDaemon, lab_daemon, made_bases
from bench.untrimmed import UntrimmedImage, make_untrimmed

ROUNDS = 3
PORT = 8000
HELLO = Path(__file__).parent.parent / "examples" / "hello"
LIMIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Bare:
    """What a domain's QEMU was given, for a QEMU of our own. `address` is what the seed says."""

    kernel: str
    initrd: str
    command_line: str
    memory: str
    layer: str
    seed: Path
    address: str


def run() -> Iterator[Figure]:
    with ExitStack() as stack:
        images = made_bases("debian-12")
        daemon = stack.enter_context(lab_daemon(images))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        project = one_instance(scratch)
        seconds_of_up(daemon, project)
        bare = bare_of(daemon, scratch)
        daemon.cli("-p", "demo", "down")
        yield compared(
            "cold.ratio",
            lambda: seconds_of_up(daemon, project, then_down=True),
            lambda: seconds_of_bare(bare, scratch),
            rounds=ROUNDS,
        )
        untrimmed = make_untrimmed(scratch)
        yield compared(
            "cold.base_ratio",
            lambda: seconds_of_bare(bare, scratch),
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


def bare_of(daemon: LabDaemon, scratch: Path) -> Bare:
    """The running instance's arguments, from its domain, and a copy of its seed."""
    (row,) = daemon.ps("-p", "demo")
    dumped = subprocess.check_output(["virsh", "dumpxml", row["domain"]], text=True)
    domain = ET.fromstring(dumped)
    directory = daemon.settings.instance_dir("demo", row["instance"])
    info = subprocess.check_output(
        ["qemu-img", "info", "-U", "--output=json", directory / "disk.qcow2"], text=True
    )
    layer = info.split('"full-backing-filename": "')[1].split('"')[0]
    seed = scratch / "seed.iso"
    shutil.copyfile(directory / "seed.iso", seed)

    def text(path: str) -> str:
        return (domain.findtext(path) or "").strip()

    return Bare(
        kernel=text("os/kernel"),
        initrd=text("os/initrd"),
        command_line=text("os/cmdline"),
        memory=f"{int(text('memory')) // 1024}M",
        layer=layer,
        seed=seed,
        address=row["inner_address"],
    )


def seconds_of_bare(bare: Bare, scratch: Path) -> float:
    disk = scratch / "bare.qcow2"
    disk.unlink(missing_ok=True)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", bare.layer, disk],
        check=True,
    )
    subnet = bare.address.rsplit(".", 1)[0]
    forward = f"hostfwd=tcp:127.0.0.1:18800-{bare.address}:{PORT}"
    return seconds_of_qemu(
        *("-m", bare.memory, "-kernel", bare.kernel, "-initrd", bare.initrd),
        *("-append", bare.command_line),
        *drive(disk, "qcow2", "vmorch-system"),
        *drive(bare.seed, "raw", "vmorch-seed", read_only=True),
        *("-netdev", f"user,id=n,net={subnet}.0/24,host={subnet}.1,{forward}"),
    )


def seconds_of_untrimmed(image: UntrimmedImage, scratch: Path) -> float:
    disk = scratch / "untrimmed-overlay.qcow2"
    disk.unlink(missing_ok=True)
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image.disk, disk],
        check=True,
    )
    return seconds_of_qemu(
        *("-m", "512M", "-kernel", image.kernel, "-initrd", image.initrd),
        *("-append", "root=/dev/vda rw console=ttyS0 quiet"),
        *drive(disk, "qcow2", "system"),
        *drive(image.seed, "raw", "seed", read_only=True),
        *("-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:18800-:{PORT}"),
    )


def drive(path: Path, kind: str, serial: str, *, read_only: bool = False) -> tuple[str, ...]:
    switch = ",readonly=on" if read_only else ""
    return (
        *("-drive", f"file={path},format={kind},if=none,id={serial}{switch}"),
        *("-device", f"virtio-blk-pci,drive={serial},serial={serial}"),
    )


def seconds_of_qemu(*arguments: str | Path) -> float:
    """From QEMU's start to the first 200, then it is ended."""
    start = time.monotonic()
    process = subprocess.Popen(
        [
            *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,tb-size=128"),
            *("-cpu", "Nehalem", "-smp", "1", "-nodefaults", "-display", "none"),
            *("-serial", "null", "-device", "virtio-net-pci,netdev=n,romfile="),
            *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
            *(
                "-chardev",
                "null,id=log",
                "-device",
                "virtserialport,chardev=log,name=org.vmorch.log.0",
            ),
            *map(str, arguments),
        ]
    )
    try:
        wait_for_200("http://127.0.0.1:18800/")
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
