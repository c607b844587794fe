"""What a killed build may have left, and taking it away at the next start.

A worker's mounts live in namespaces that died with it, so as a rule only directories are left.
Should a FUSE export of ours be mounted where we are all the same (a namespace that was entered
by hand, a kernel that ends things late), its connection is aborted first: whoever waits for the
storage daemon that is gone would otherwise wait for ever.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

_CONNECTIONS = Path("/sys/fs/fuse/connections")
_UNMOUNT_SECONDS = 30


def sweep_directory(temporary: Path, prefix: str) -> None:
    """Remove all `prefix…` entries of `temporary` and what is mounted below them. Blocking."""
    for target, device in reversed(_mounts_below(temporary)):
        abort = _CONNECTIONS / str(os.minor(device)) / "abort"
        with contextlib.suppress(OSError):
            abort.write_text("1")
        arguments = ["umount", "--lazy", "--no-canonicalize", target]
        with contextlib.suppress(subprocess.SubprocessError):
            subprocess.run(arguments, capture_output=True, timeout=_UNMOUNT_SECONDS)
    for left in temporary.glob(f"{prefix}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _mounts_below(directory: Path) -> list[tuple[str, int]]:
    """(mount point, device number), in the order in which they were mounted."""
    found = []
    prefix = f"{directory.resolve()}/"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        target = fields[4].encode().decode("unicode_escape")  # mountinfo writes a space as \040
        major, minor = map(int, fields[2].split(":"))
        if target.startswith(prefix):
            found.append((target, os.makedev(major, minor)))
    return found
