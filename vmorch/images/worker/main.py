"""The worker's processes and their order. Started as `main(PARENT_PID)` with the job on stdin."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from vmorch.images.worker import archive, kernel, runner, sandbox
from vmorch.images.worker.copier import Copier, make_directories
from vmorch.images.worker.export import ExportFailed, exported, mount_image
from vmorch.images.worker.job import Job, RunAction, job_from_json
from vmorch.images.worker.tree import CopyFailed
from vmorch.images.worker.users import UnknownUser

_EXPECTED = (OSError, ExportFailed, CopyFailed, UnknownUser)


def main(parent: int) -> None:
    kernel.die_with_parent(parent)
    os.umask(0o022)
    job = job_from_json(sys.stdin.read())
    kernel.unshare(kernel.CLONE_NEWNS)
    # Slave, not private: what the host unmounts meanwhile must not be held by us.
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_SLAVE)
    status = 1
    try:
        with exported(
            disk=job.disk, backing=job.backing, source_disk=job.source_disk, work=Path(job.work)
        ) as (layer, source, server):
            report(phase="exported")
            status = in_child(lambda: _write(job, layer, source), server=server)
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


def _write(job: Job, layer: Path, source: Path | None) -> int:
    """The mounter: holds the ext4 mounts, in a namespace that the storage daemon is not in."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    root, image = Path(job.work) / "root", Path(job.work) / "image"
    root.mkdir()
    mount_image(layer, root, writable=True)
    if source is not None:
        image.mkdir()
        mount_image(source, image, writable=False)
    report(phase="mounted")
    status = in_child(lambda: _copy(job, root, image if source else None))
    if status == 0 and job.run is not None:
        status = _run(job.run, root, Path(job.work))
    report(phase="written")
    kernel.sync_file_system(root)
    kernel.unmount(str(root))
    if source is not None:
        kernel.unmount(str(image))
    report(phase="unmounted")
    return status


def _copy(job: Job, root: Path, image: Path | None) -> int:
    if job.copy is not None and any(source.archive for source in job.copy.sources):
        archive.prepare()
    host_root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    image_root = os.open(image, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if image else -1
    os.chroot(root)
    os.chdir("/")
    for directory in job.directories:
        make_directories(directory)
    if job.copy is not None:
        Copier(job.copy, host_root=host_root, image_root=image_root).run()
    return 0


def _run(action: RunAction, root: Path, work: Path) -> int:
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    placeholders, files = sandbox.prepare_targets(descriptor, action)
    try:
        return in_child(lambda: runner.run(action, root, work, files), flags=kernel.CLONE_NEWPID)
    finally:
        for placeholder in placeholders:
            placeholder.remove()
        os.close(descriptor)
