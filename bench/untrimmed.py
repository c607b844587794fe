"""Debian as mmdebstrap makes it, untrimmed: what a base would be without our work on it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vmorch.model.stepnet import outside

PACKAGES = (
    "systemd-sysv,dbus,udev,cloud-init,openssh-server,qemu-guest-agent,netplan.io,ifupdown,"
    "isc-dhcp-client,initramfs-tools,linux-image-cloud-amd64"
)
USER_DATA = """#cloud-config
runcmd:
  - [systemd-run, --unit=web, python3, -m, http.server, "8000", --directory, /usr/share/doc]
"""


@dataclass(frozen=True, slots=True)
class UntrimmedImage:
    disk: Path
    kernel: Path
    initrd: Path
    seed: Path


def make_untrimmed(scratch: Path) -> UntrimmedImage:
    """The same services, cloud-init starting the web server as a user would."""
    root, disk = scratch / "untrimmed", scratch / "untrimmed.qcow2"
    netns = os.environ.get("VMORCH_OUTSIDE_NETNS", "")
    command = ("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm")
    subprocess.run(outside(netns, *command, str(root)), check=True, stdout=subprocess.DEVNULL)
    (root / "etc" / "fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    kernel, initrd = scratch / "untrimmed-vmlinuz", scratch / "untrimmed-initrd"
    next((root / "boot").glob("vmlinuz-*")).rename(kernel)
    next((root / "boot").glob("initrd.img-*")).rename(initrd)
    raw = scratch / "untrimmed.raw"
    subprocess.run(["truncate", "-s", "4G", raw], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", root, raw], check=True)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, disk], check=True)
    raw.unlink()
    return UntrimmedImage(disk, kernel, initrd, _seed(scratch))


def _seed(scratch: Path) -> Path:
    directory, seed = scratch / "seed", scratch / "untrimmed-seed.iso"
    directory.mkdir()
    (directory / "user-data").write_text(USER_DATA)
    (directory / "meta-data").write_text("instance-id: untrimmed\nlocal-hostname: untrimmed\n")
    subprocess.run(
        ["genisoimage", "-quiet", "-J", "-R", "-V", "cidata", "-o", seed, directory], check=True
    )
    return seed
