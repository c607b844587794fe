"""A cloud-style disk that is made here (GPT, a boot loader of its own, cloud-init) is imported,
built upon, and serves; and what is no such disk is refused and leaves nothing."""

from __future__ import annotations

import binascii
import hashlib
import json
import os
import struct
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20
ROOT = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
LEGACY_BOOT = 1 << 2  # the attribute by which syslinux's gptmbr.bin finds its partition
START = 64 * MIB
LENGTH = 1536 * MIB

# A root as distributions make it: a kernel, an initramfs and a boot loader of its own.
DOCKERFILE = """FROM debian:12
RUN --mount=type=cache,target=/var/cache/apt --mount=type=cache,target=/var/lib/apt/lists \\
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \\
  --no-install-recommends linux-image-cloud-amd64 initramfs-tools extlinux syslinux-common
RUN rm -rf /usr/lib/vmorch /usr/lib/systemd/system/vmorch-* /etc/cloud/cloud.cfg.d/10_vmorch.cfg \\
  /usr/lib/udev/rules.d/60-vmorch.rules /etc/systemd/system/systemd-remount-fs.service \\
  && find /etc/systemd -name 'vmorch-*' -delete
"""
LOADER = """DEFAULT linux
PROMPT 0
TIMEOUT 1
LABEL linux
  KERNEL {kernel}
  INITRD {initrd}
  APPEND root=UUID={uuid} ro console=ttyS0 panic=-1
"""
SERVICE = """FROM cloud
COPY index.html /srv/www/
EXPOSE 8080
WORKDIR /srv/www
CMD ["python3", "-m", "http.server", "8080"]
"""
COMPOSE = """
name: {name}
services:
  web:
    build: .
    expose: [8080]
    route: {{host: {name}.localhost}}
    healthcheck: {{test: ["HTTP", "/"], interval: 2s, retries: 3, start_period: 400s}}
    deploy: {{resources: {{limits: {{cpus: "1", memory: 512M}}}}}}
"""

pytestmark = pytest.mark.long


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def mounted(file: Path, place: Path, options: str = "loop") -> Iterator[Path]:
    place.mkdir()
    run("mount", "-o", options, file, place)
    try:
        yield place
    finally:
        run("umount", place)
        place.rmdir()


def table(size: int) -> tuple[bytes, bytes]:
    """A GPT with an (empty) EFI partition and the root: header and entries."""
    entries = bytearray(128 * 128)
    rows = ((ESP, MIB, 32 * MIB, 0), (ROOT, START, LENGTH, LEGACY_BOOT))
    for number, (kind, start, length, attributes) in enumerate(rows):
        places = struct.pack("<QQQ", start // 512, (start + length) // 512 - 1, attributes)
        entry = uuid.UUID(kind).bytes_le + uuid.uuid4().bytes_le + places
        entries[128 * number : 128 * number + len(entry)] = entry
    header = bytearray(b"EFI PART" + struct.pack("<III", 0x10000, 92, 0) + bytes(72))
    header[24:56] = struct.pack("<QQQQ", 1, size // 512 - 1, 34, size // 512 - 34)
    header[56:72] = uuid.uuid4().bytes_le
    header[72:92] = struct.pack("<QIII", 2, 128, 128, binascii.crc32(entries))
    header[16:20] = struct.pack("<I", binascii.crc32(bytes(header[:92])))
    return bytes(header), bytes(entries)


def protective(code: bytes) -> bytes:
    row = bytes([0, 0, 2, 0, 0xEE, 255, 255, 255]) + struct.pack("<II", 1, 0xFFFFFFFF)
    return code[:440].ljust(446, b"\0") + row + bytes(48) + b"\x55\xaa"


@pytest.fixture(scope="module")
def tree(daemon: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the root."""
    place = tmp_path_factory.mktemp("root")
    (place / "Dockerfile").write_text(DOCKERFILE)
    daemon.cli("image", "build", "-t", "rootfs", str(place))
    image = json.loads(daemon.cli("image", "inspect", "rootfs").stdout)
    top = image["layers"][-1]["digest"].removeprefix("sha256:")
    raw = place / "raw"
    layer = daemon.settings.images_dir / "layers" / f"{top}.qcow2"
    run("qemu-img", "convert", "-O", "raw", layer, raw)
    with mounted(raw, place / "mounted", "loop,ro,noload") as root:
        run("cp", "-a", "--no-target-directory", root, place / "tree")
    raw.unlink()
    return place / "tree"


def make_disk(tree: Path, work: Path, *, hidden: bool) -> Path:
    """`hidden`: kernel and initramfs have names by which nobody but the boot loader knows them."""
    part, disk = work / "part", work / "disk.raw"
    identity = str(uuid.uuid4())
    with part.open("wb") as file:
        file.truncate(LENGTH)
    features = ("-O", "^64bit,^metadata_csum", "-U", identity, "-L", "cloudroot")
    run("mke2fs", "-q", "-F", "-t", "ext4", *features, "-d", tree, part)
    with mounted(part, work / "mnt") as root:
        kernel = next((root / "boot").glob("vmlinuz-*"))
        initrd = next((root / "boot").glob("initrd.img-*"))
        if hidden:
            kernel, initrd = kernel.rename(root / "boot/a"), initrd.rename(root / "boot/b")
        loader = root / "boot/extlinux"
        loader.mkdir()
        names = {"kernel": f"/boot/{kernel.name}", "initrd": f"/boot/{initrd.name}"}
        (loader / "extlinux.conf").write_text(LOADER.format(uuid=identity, **names))
        (root / "etc/fstab").write_text(f"UUID={identity} / ext4 defaults 0 1\n")
        run("mount", "--bind", "/dev", root / "dev")
        run("mount", "-t", "proc", "proc", root / "proc")
        run("chroot", root, "extlinux", "--install", "/boot/extlinux")
        run("umount", root / "proc")
        run("umount", root / "dev")
        code = (root / "usr/lib/syslinux/mbr/gptmbr.bin").read_bytes()
    size = START + LENGTH + MIB
    header, entries = table(size)
    with disk.open("wb") as file:
        file.truncate(size)
        file.write(protective(code))
        file.write(header.ljust(512, b"\0") + entries)
    run("dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={START // MIB}", "conv=notrunc,sparse")
    part.unlink()
    made = work / "disk.qcow2"
    run("qemu-img", "convert", "-O", "qcow2", disk, made)
    disk.unlink()
    return made


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """A web server on the loopback of the network in which the daemon fetches."""
    outside = os.environ["VMORCH_OUTSIDE_NETNS"]
    server = ("python3", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1")
    command = ["nsenter", f"--net={outside}", *server, "--directory", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        port = process.stdout.readline().split(b" port ")[1].split()[0].decode()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def answer(port: int, host: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": host})
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(response.read().decode())


@pytest.mark.parametrize("boot", ["direct", "loader"])
def test_a_cloud_image_is_imported_built_upon_and_serves(
    daemon: Any, tree: Path, tmp_path: Path, boot: str
) -> None:
    disk = make_disk(tree, tmp_path, hidden=boot == "loader")
    digest = sha256(disk)
    if boot == "loader":
        daemon.cli("image", "import", "cloud", str(disk), "--sha256", digest)
    else:
        with served(tmp_path) as url:
            daemon.cli("image", "import", "cloud", f"{url}/{disk.name}", "--sha256", digest)
    disk.unlink()
    image = json.loads(daemon.cli("image", "inspect", "cloud").stdout)
    assert bool(image["boot"]["kernel"]) is (boot == "direct")
    assert {"systemd", "cloud-init"} <= set(image["boot"]["supports"])
    name = f"cloud-{boot}"
    (tmp_path / "Dockerfile").write_text(SERVICE)
    (tmp_path / "index.html").write_text(f"served by {boot}")
    (tmp_path / "compose.yaml").write_text(COMPOSE.format(name=name))
    daemon.cli("up", "--wait", cwd=tmp_path, timeout=700)
    assert answer(daemon.settings.http_port, f"{name}.localhost") == f"served by {boot}"
    log = daemon.settings.state_dir / "environments" / name / "web-1" / "console.log"
    assert "Kernel panic" not in log.read_text(errors="replace")
    daemon.cli("-p", name, "down")


def test_what_a_server_does_not_give_as_promised_is_refused_and_leaves_nothing(
    daemon: Any, tmp_path: Path
) -> None:
    before = listing(daemon.settings.images_dir)
    (tmp_path / "junk").write_bytes(os.urandom(MIB))
    digest = sha256(tmp_path / "junk")
    with served(tmp_path) as url:
        for address, promised, code, fragment in (
            (f"{url}/junk", digest, 3, "no disk image"),
            (f"{url}/junk", "0" * 64, 2, f"is sha256:{digest}, not sha256:000"),
            (f"{url}/nothing", digest, 1, "HTTP Error 404"),
            ("http://127.0.0.1:9/junk", digest, 1, "Connection refused"),
        ):
            said = daemon.cli("image", "import", "x", address, "--sha256", promised, check=False)
            assert (said.returncode, fragment in said.stderr) == (code, True), said.stderr
    assert listing(daemon.settings.images_dir) == before


def test_what_is_no_disk_of_a_linux_is_refused_and_leaves_nothing(
    daemon: Any, tmp_path: Path
) -> None:
    images = daemon.settings.images_dir
    before = listing(images)
    junk, empty = tmp_path / "junk", tmp_path / "empty"
    junk.write_bytes(os.urandom(3 * MIB))
    run("truncate", "-s", "64M", empty)
    overlay = tmp_path / "overlay"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", overlay)
    plain = tmp_path / "plain"
    run("truncate", "-s", "64M", plain)
    run("mke2fs", "-q", "-F", "-t", "ext4", plain)
    cut = tmp_path / "cut"
    cut.write_bytes(plain.read_bytes()[: 20 * MIB])
    short = tmp_path / "short"
    run("qemu-img", "convert", "-O", "qcow2", junk, short)
    os.truncate(short, 2 * MIB)
    for path, code, fragment in (
        (junk, 3, "no disk image"),
        (empty, 3, "no disk image"),
        (overlay, 2, "stands on another"),
        (plain, 3, "holds no Linux"),
        (cut, 3, "cut off"),
        (short, 2, "damaged"),
    ):
        said = daemon.cli("image", "import", "bad", str(path), "--insecure", check=False)
        assert (said.returncode, fragment in said.stderr) == (code, True), said.stderr
    wrong = daemon.cli("image", "import", "bad", str(junk), "--sha256", "0" * 64, check=False)
    assert wrong.returncode == 2
    assert "not sha256:000" in wrong.stderr
    unsaid = daemon.cli("image", "import", "bad", str(junk), check=False)
    assert unsaid.returncode == 2
    assert "--insecure" in unsaid.stderr
    assert listing(images) == before


def listing(images: Path) -> list[str]:
    return sorted(str(p.relative_to(images)) for p in images.rglob("*") if p.is_file())
