"""`RUN --mount`: what a step sees beside its image. Nothing of it stays in the layer."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from vmorch.images.worker import kernel
from vmorch.images.worker.job import CopyAction, MountAction, Source
from vmorch.images.worker.tree import CopyFailed

_SAFE = kernel.MS_NOSUID | kernel.MS_NODEV


def staged_bind(work: Path, number: int) -> Path:
    """Where files of the context lie that a step sees."""
    return work / f"bind-{number}"


def bind_copy(mount: MountAction) -> CopyAction:
    """Copies the files of a bind into a directory that is the root: a directory as `tree`."""
    is_file = mount.items[0].kind == "file"
    source = Source(name="tree", items=mount.items)
    return CopyAction(
        sources=(source,),
        destination="/" if is_file else "/tree",
        into_directory=is_file,
        chown="",
        chmod=None,
    )


def is_directory(mount: MountAction, images: Sequence[Path]) -> bool:
    """Raises CopyFailed: the image has no such path."""
    if mount.kind == "secret":
        return False
    if mount.kind != "bind":
        return True
    if mount.source < 0:
        return mount.items[0].kind == "directory"
    image = os.open(images[mount.source], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place = kernel.open_in_root(image, f"/{mount.path}", os.O_PATH)
        try:
            return stat.S_ISDIR(os.fstat(place).st_mode)
        finally:
            os.close(place)
    except OSError as error:
        raise CopyFailed(f"'/{mount.path}' is not in the image that from= names") from error
    finally:
        os.close(image)


def stage(mount: MountAction, number: int, work: Path) -> Path:
    """Mount it in `work`, with its flags; it is then moved to its target. Called in the step's
    own mount namespace."""
    place = work / f"mount-{number}"
    if mount.kind == "tmpfs":
        place.mkdir()
        size = f",size={mount.size}" if mount.size else ""
        kernel.mount("tmpfs", str(place), "tmpfs", _SAFE, f"mode=1777{size}")
        return place
    if mount.kind == "secret":
        return _secret(mount, place)
    source = mount.path
    if mount.kind == "bind" and mount.source < 0:
        source = str(staged_bind(work, number) / "tree")
    if mount.kind == "bind" and mount.source >= 0:
        return _from_image(mount, work / f"image-{mount.source}", place)
    return _bound(source, place, writable=mount.writable)


def _bound(source: str, place: Path, *, writable: bool) -> Path:
    if Path(source).is_dir():
        place.mkdir()
    else:
        place.touch()
    kernel.mount(source, str(place), "", kernel.MS_BIND)
    flags = kernel.MS_BIND | kernel.MS_REMOUNT | _SAFE
    kernel.mount("none", str(place), "", flags | (0 if writable else kernel.MS_RDONLY))
    return place


def _from_image(mount: MountAction, image: Path, place: Path) -> Path:
    root = os.open(image, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    source = kernel.open_in_root(root, f"/{mount.path}", os.O_PATH)
    try:
        return _bound(f"/proc/self/fd/{source}", place, writable=False)
    finally:
        os.close(source)
        os.close(root)


def _secret(mount: MountAction, place: Path) -> Path:
    """On a file system in memory: a secret is never written to a disk."""
    memory = place.with_suffix(".memory")
    memory.mkdir()
    kernel.mount("secret", str(memory), "tmpfs", _SAFE | kernel.MS_NOEXEC, "mode=700")
    file = memory / "secret"
    file.write_bytes(base64.b64decode(mount.content))
    os.chown(file, mount.uid, mount.gid)
    file.chmod(mount.mode)
    return _bound(str(file), place, writable=False)
