"""Files that QEMU, an unprivileged user, has to open."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vmorch.errors import HypervisorError
from vmorch.hypervisor.platform import Owner
from vmorch.hypervisor.protocol import GuestConfig

SPARE_DISK_BYTES = 1024 * 1024


def ensure_spare_disk(directory: Path) -> Path:
    """The blank disk in the place of both spare ones of every guest; nobody can write it."""
    path = directory / "blank.raw"
    if path.exists() and path.stat().st_size == SPARE_DISK_BYTES:
        return path
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    draft = directory / "blank.raw.new"
    with draft.open("wb") as file:
        file.truncate(SPARE_DISK_BYTES)
    draft.chmod(0o444)
    draft.replace(path)
    return path


def hand_over(path: Path, owner: Owner | None, *, mode: int) -> None:
    """Give a file of one instance to QEMU's user, and to it alone.

    libvirt must not do it: it would take what is shared along (see xml.py).

    Raises:
        HypervisorError: the file is missing, or is not the instance's own.
    """
    uid, gid = (owner.uid, owner.gid) if owner is not None else (-1, -1)
    _give(path, uid, gid, mode)


def hand_over_all(config: GuestConfig, owner: Owner | None) -> None:
    """The same with all files that are a guest's own."""
    hand_over(config.system_disk, owner, mode=0o600)
    hand_over(config.seed_disk, owner, mode=0o400)
    for volume in config.volumes:
        hand_over(volume.path, owner, mode=0o600)


def share(path: Path, owner: Owner | None) -> None:
    """Let QEMU's group read a file, ourselves too, and nobody write it. It stays ours: an owner
    could let itself write what other guests stand on.

    Raises:
        HypervisorError: the file is missing, or has another name somewhere.
    """
    _give(path, os.getuid(), owner.gid if owner is not None else os.getgid(), 0o440)


def _give(path: Path, uid: int, gid: int, mode: int) -> None:
    """-1 leaves user or group as it is."""
    try:
        found = path.stat(follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise HypervisorError(
                f"{path} is no file of its own, so it is not handed to QEMU.",
                hint="Remove it; it is made anew.",
            )
        path.chmod(mode)
        if (uid, gid) != (-1, -1):
            os.chown(path, uid, gid, follow_symlinks=False)
    except OSError as error:
        raise HypervisorError(
            f"{path} cannot be handed to QEMU: {error.strerror}.",
            hint="Does the file exist, and does this process run as root?",
        ) from error
