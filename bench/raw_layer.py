"""The bare work that a layer or a package step is compared with: the same tools by hand."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

_WRITE = (
    'mount -o loop,noatime,discard "$1" "$2"; mkdir -p "$2/srv/app"; '
    'cp -r --no-preserve=all "$3/." "$2/srv/app"; umount "$2"'
)
_INSTALL = (
    'mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"; '
    'cp /etc/resolv.conf "$1/etc/resolv.conf"; exec chroot "$1" sh -c "$2"'
)


def raw_layer(parent: Path, changed: Path, files: Path, scratch: Path) -> float:
    """Hash the changed file, make an overlay of `parent`, mount it, copy `files` in, unmount; the
    seconds that this takes."""
    work = scratch / "raw"
    work.mkdir()
    began = time.perf_counter()
    with changed.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    layer, raw, root = work / "layer.qcow2", work / "layer.raw", work / "root"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2"]
    subprocess.run([*create, "-b", str(parent), str(layer)], check=True)
    raw.touch()
    root.mkdir()
    server = subprocess.Popen(
        [
            "qemu-storage-daemon",
            *("--blockdev", f"driver=file,node-name=f,filename={layer}"),
            *("--blockdev", "driver=qcow2,node-name=q,file=f,discard=unmap"),
            *("--export", f"type=fuse,id=e,node-name=q,mountpoint={raw},writable=on"),
        ]
    )
    while raw.stat().st_size == 0:
        time.sleep(0.002)
    subprocess.run(["unshare", "-m", "sh", "-ec", _WRITE, "sh", raw, root, files], check=True)
    server.send_signal(signal.SIGTERM)
    server.wait()
    seconds = time.perf_counter() - began
    shutil.rmtree(work)
    return seconds


def chroot_of(layer: Path, scratch: Path) -> Path:
    """The files of an image in a directory."""
    raw, place, tree = scratch / "image.raw", scratch / "mounted", scratch / "tree"
    subprocess.run(["qemu-img", "convert", "-O", "raw", layer, raw], check=True)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop,ro,noload", raw, place], check=True)
    try:
        subprocess.run(["cp", "-a", place, tree], check=True)
    finally:
        subprocess.run(["umount", place], check=True)
        raw.unlink()
    return tree


def install_in_chroot(tree: Path, scratch: Path, command: str) -> float:
    """Run `command` in a fresh copy of `tree`; the seconds that the command takes, with what it
    wrote on disk, as a layer is when it is there."""
    copy = scratch / "chroot"
    subprocess.run(["cp", "-a", tree, copy], check=True)
    os.sync()
    began = time.perf_counter()
    enter = ["unshare", "-m", "-p", "--fork", "--kill-child", "sh", "-ec", _INSTALL]
    subprocess.run([*enter, "sh", copy, command], check=True, capture_output=True)
    os.sync()
    seconds = time.perf_counter() - began
    shutil.rmtree(copy)
    return seconds
