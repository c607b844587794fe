"""The worker's processes and their order. Started as `main(PARENT_PID)` with the job on stdin."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from vmorch.images.worker import archive, contents, kernel, mounts, runner, sandbox
from vmorch.images.worker.copier import Copier, make_directories
from vmorch.images.worker.examine import examine
from vmorch.images.worker.export import ExportFailed, Exports, exported, mount_image
from vmorch.images.worker.job import CopyAction, Job, MountAction, RunAction, Volume, job_from_json
from vmorch.images.worker.partitions import BadDisk
from vmorch.images.worker.tree import CopyFailed
from vmorch.images.worker.users import UnknownUser

_EXPECTED = (OSError, ExportFailed, CopyFailed, UnknownUser, BadDisk)


def main(parent: int) -> None:
    kernel.die_with_parent(parent)
    os.umask(0o022)
    text = sys.stdin.read()
    if not text:
        return  # no job came
    job = job_from_json(text)
    kernel.unshare(kernel.CLONE_NEWNS)
    # Slave, not private: what the host unmounts meanwhile must not be held by us.
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_SLAVE)
    status = 1
    try:
        with exported(
            disk=job.disk, backing=job.backing, sources=job.sources, work=Path(job.work)
        ) as exports:
            report(phase="exported")
            status = in_child(lambda: _work(job, exports), server=exports.server)
        report(phase="closed", exit=status)
    except _EXPECTED as error:
        report(error=str(error))
    sys.exit(status)


def report(**fields: object) -> None:
    os.write(2, json.dumps(fields).encode() + b"\n")


def in_child(work: Callable[[], int], *, flags: int = 0, server: int = 0) -> int:
    """Run in a forked child that dies with us; `flags` are namespaces for it (unshare).

    It is ended when the process `server` ends first: without the storage daemon every write
    fails, which a command that tries again and again would never notice.
    """
    alive, ours = os.pipe()
    if flags:
        kernel.unshare(flags)
    parent = 0 if flags & kernel.CLONE_NEWPID else os.getpid()
    child = os.fork()
    if not child:
        os.close(ours)
        status = 1
        try:
            kernel.die_with_parent(parent)
            if select.select([alive], [], [], 0)[0]:
                os._exit(1)  # the parent died before we asked to die with it
            status = work()
        except _EXPECTED as error:
            report(error=str(error))
        except BaseException as error:
            report(error=f"{type(error).__name__}: {error}", bug=True)
        finally:
            os._exit(status)
    os.close(alive)
    ended, status = os.wait() if server else os.waitpid(child, 0)
    os.close(ours)
    if ended != child:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise ExportFailed("the storage daemon died")
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _work(job: Job, exports: Exports) -> int:
    """The mounter: holds the mounts, in a namespace that the storage daemon is not in."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    work = Path(job.work)
    if job.examine:
        found = examine(exports.sources[0], job.sources[0].path, work, job.partition)
        report(findings=asdict(found))
        return 0
    images = [work / f"image-{number}" for number in range(len(job.sources))]
    for image, file, volume in zip(images, exports.sources, job.sources, strict=True):
        image.mkdir()
        mount_image(file, image, volume, writable=False)
    status = 0
    if job.digest:
        report(content=contents.digest(images[0], job.digest))
    if job.disk is not None and exports.layer is not None:
        status = _write(job, exports.layer, job.disk, images)
    for image in images:
        kernel.unmount(str(image))
    report(phase="unmounted")
    return status


def _write(job: Job, file: Path, disk: Volume, images: list[Path]) -> int:
    root = Path(job.work) / "root"
    root.mkdir()
    mount_image(file, root, disk, writable=True)
    # Open from here on: an error of writing is told once to each who had a file open by then, and
    # the step may be the first to ask.
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    report(phase="mounted")
    status = in_child(lambda: _copy(job, root, images))
    if status == 0 and job.run is not None:
        status = _run(job.run, root, Path(job.work), images)
    report(phase="written")
    kernel.sync_file_system(top)
    os.close(top)
    kernel.unmount(str(root))
    return status


def _copy(job: Job, root: Path, images: list[Path]) -> int:
    if job.copy is not None and any(source.archive for source in job.copy.sources):
        archive.prepare()
    return _copy_into(root, job.copy, job.directories, images[0] if images else None)


def _copy_into(
    root: Path, action: CopyAction | None, directories: Sequence[str], image: Path | None
) -> int:
    host_root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    image_root = os.open(image, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if image else -1
    os.chroot(root)
    os.chdir("/")
    for directory in directories:
        make_directories(directory)
    if action is not None:
        Copier(action, host_root=host_root, image_root=image_root).run()
    return 0


def _run(action: RunAction, root: Path, work: Path, images: list[Path]) -> int:
    for number, mount in enumerate(action.mounts):
        if mount.items and (status := _stage_bind(mount, mounts.staged_bind(work, number))):
            return status
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    placeholders, files = sandbox.prepare_targets(descriptor, action, images)
    try:
        return in_child(lambda: runner.run(action, root, work, files), flags=kernel.CLONE_NEWPID)
    finally:
        for placeholder in placeholders:
            placeholder.remove()
        os.close(descriptor)


def _stage_bind(mount: MountAction, place: Path) -> int:
    place.mkdir()
    return in_child(lambda: _copy_into(place, mounts.bind_copy(mount), (), None))
