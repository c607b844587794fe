"""Looks at a disk that somebody else made: where its root is, how it boots, what it has.

Everything in it may be hostile. It is mounted read-only, and every path is resolved inside it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmorch.images.worker import kernel
from vmorch.images.worker.export import mount_image
from vmorch.images.worker.job import Volume
from vmorch.images.worker.partitions import (
    SECTOR,
    BadDisk,
    Partition,
    find_boot,
    find_root,
    partitions,
)

KERNEL = "vmlinuz"
INITRD = "initrd"
_LIMIT_BYTES = 1 << 30  # of a kernel or initramfs
_PROGRAMS = {
    "systemd": ("/usr/lib/systemd/systemd", "/lib/systemd/systemd"),
    "agent": ("/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"),
    "ssh": ("/usr/sbin/sshd", "/usr/bin/sshd"),
    "cloud-init": ("/usr/bin/cloud-init",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """`volume` is where the root is. `root` is the kernel's argument for it; "" when there is no
    kernel that could be booted directly. `has_loader`: a BIOS finds something to start."""

    volume: Volume
    root: str
    supports: tuple[str, ...]
    has_loader: bool
    system: str


def examine(raw: Path, path: str, work: Path, number: int | None) -> Findings:
    """`raw` is the disk `path` as a raw file. Leaves kernel and initramfs in `work`.

    Raises:
        BadDisk: it is no disk of a Linux; the text says why.
    """
    with raw.open("rb") as disk:
        loader = any(disk.read(440))
        found = partitions(disk, raw.stat().st_size)
    root = find_root(found, os.uname().machine, number)
    volume = _volume(root, path)
    place = _mounted(raw, work / "looked-at", volume)
    boot = find_boot(found, root)
    boots = [_mounted(raw, work / "boot-partition", _volume(boot, path))] if boot else []
    try:
        return _findings(volume, root, loader, place, boots, work)
    finally:
        # Whatever is still open is read-only, and this process is about to end.
        for directory in (place, *boots):
            kernel.unmount(str(directory), kernel.MNT_DETACH)


def _volume(partition: Partition, path: str) -> Volume:
    assert partition.system is not None
    return Volume(
        path=path,
        offset=partition.start,
        length=partition.length if partition.number else 0,
        file_system=partition.system.kind,
        sector=SECTOR,
    )


def _mounted(raw: Path, target: Path, volume: Volume) -> Path:
    target.mkdir()
    mount_image(raw, target, volume, writable=False)
    return target


def _findings(
    volume: Volume,
    partition: Partition,
    loader: bool,
    place: Path,
    boots: Sequence[Path],
    work: Path,
) -> Findings:
    assert partition.system is not None
    root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if not any(_exists(root, path) for path in ("/sbin/init", "/etc/os-release")):
        raise BadDisk("its root partition holds no Linux: no /sbin/init and no /etc/os-release")
    supports = tuple(n for n, paths in _PROGRAMS.items() if any(_exists(root, p) for p in paths))
    argument = ""
    folders = [(root, "/boot"), *((os.open(b, os.O_PATH | os.O_DIRECTORY), "/") for b in boots)]
    for folder, path in reversed(folders):
        if argument:
            break
        pair = _newest(root, folder, path)
        if pair is not None and _take(folder, pair[0], work / KERNEL, b"HdrS"):
            argument = (
                f"UUID={partition.system.uuid}" if _take(folder, pair[1], work / INITRD) else ""
            )
    return Findings(
        volume=volume,
        root=argument,
        supports=supports,
        has_loader=loader,
        system=_pretty_name(root),
    )


def _newest(root: int, folder: int, path: str) -> tuple[str, str] | None:
    """The paths of the newest kernel that has an initramfs and its modules."""
    try:
        listing = kernel.open_in_root(folder, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    names = {item.name for item in os.scandir(listing)}
    os.close(listing)
    pairs = []
    for name in names:
        _, _, version = name.partition("-")
        if not name.startswith("vmlinuz-"):
            continue
        initrds = (f"initrd.img-{version}", f"initramfs-{version}.img", f"initramfs-{version}")
        initrd = next((i for i in (*initrds, f"initrd-{version}") if i in names), "")
        plain = not version[:1].isdigit()  # Alpine's vmlinuz-virt
        if initrd and (plain or _exists(root, f"/lib/modules/{version}")):
            pairs.append((_sortable(version), f"{path}/{name}", f"{path}/{initrd}"))
    return max(pairs)[1:] if pairs else None


def _sortable(version: str) -> tuple[tuple[int, str], ...]:
    parts = re.findall(r"\d+|\D+", version)
    return tuple((int(p), "") if p.isdigit() else (-1, p) for p in parts)


def _take(folder: int, path: str, target: Path, magic: bytes = b"") -> bool:
    """Copy a file out; `magic` must be where a Linux kernel for x86 has it (boot protocol)."""
    try:
        descriptor = kernel.open_in_root(folder, path, os.O_RDONLY)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as source:
        if not 0 < os.fstat(descriptor).st_size < _LIMIT_BYTES:
            return False
        if magic and source.read(0x206)[0x202:] != magic:
            return False
        source.seek(0)
        with target.open("wb") as out:
            shutil.copyfileobj(source, out)
    return True


def _exists(root: int, path: str) -> bool:
    try:
        os.close(kernel.open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW))
    except OSError:
        return False
    return True


def _pretty_name(root: int) -> str:
    try:
        descriptor = kernel.open_in_root(root, "/etc/os-release", os.O_RDONLY)
    except OSError:
        return "a Linux"
    with os.fdopen(descriptor, errors="replace") as file:
        match = re.search(r'^PRETTY_NAME="?([^"\n]{1,100})', file.read(65536), re.MULTILINE)
    return match.group(1) if match else "a Linux"
