"""What a RUN step sees instead of the host: /dev, /proc, a few files bound for its time.

Everything is staged outside the image first and then moved in by descriptor, so that a symlink
in the image at /dev or /etc/resolv.conf cannot lead a mount anywhere else.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmorch.images.worker import kernel, mounts
from vmorch.images.worker.job import RunAction

STEP_DIRECTORY = "/dev/.vmorch"
SCRIPT = f"{STEP_DIRECTORY}/script"
CERTIFICATES = f"{STEP_DIRECTORY}/ca-certificates.crt"

# Programs that do not read the system's trust store each have a variable of their own.
CERTIFICATE_VARIABLES = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
)

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
# Root without any capability may still write these: core_pattern alone would be a way out.
_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_HIDDEN = ("acpi", "kcore", "keys", "kmsg", "latency_stats", "sched_debug", "scsi", "timer_list")

_SHARED_MEMORY = "mode=1777,size=64m"  # Docker's size

_POLICY = "#!/bin/sh\n# Packages must not start services while an image is built.\nexit 101\n"
_HOSTS = "127.0.0.1 localhost build\n::1 localhost\n"


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A file or directory made only to be mounted upon; removed when it is still the same."""

    directory: int
    name: str
    inode: int
    is_directory: bool

    def remove(self) -> None:
        try:
            status = os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
            if status.st_ino != self.inode:
                return
            if self.is_directory:
                os.rmdir(self.name, dir_fd=self.directory)
            elif status.st_size == 0:
                os.unlink(self.name, dir_fd=self.directory)
        except OSError:
            return  # the step put something into it: then it belongs to the image
        finally:
            os.close(self.directory)


def prepare_targets(
    root: int, action: RunAction, images: Sequence[Path]
) -> tuple[list[Placeholder], list[str]]:
    """Make what is missing of the places that will be mounted upon.

    Returns what to remove after the step, and the files (absolute, in the image) to bind.
    """
    made: list[Placeholder] = []
    for name in ("dev", "proc"):
        _make(root, f"/{name}", made, directory=True)
    files = ["/etc/hosts"]
    if action.resolv_conf:
        files.append("/etc/resolv.conf")
    if _is_directory(root, "/usr/sbin"):
        files.append("/usr/sbin/policy-rc.d")
    for path in files:
        _make(root, path, made, directory=False)
    for mount in action.mounts:
        _make(root, mount.target, made, directory=mounts.is_directory(mount, images))
    return made, files


def _is_directory(root: int, path: str) -> bool:
    try:
        os.close(kernel.open_in_root(root, path, os.O_PATH | os.O_DIRECTORY))
    except OSError:
        return False
    return True


def _make(
    root: int, path: str, made: list[Placeholder], *, directory: bool, links: int = 8
) -> None:
    """Make `path` and the directories above it, following dangling links inside the root."""
    try:
        os.close(kernel.open_in_root(root, path, os.O_PATH))
        return
    except FileNotFoundError:
        pass
    above, name = posixpath.split(path)
    if above != "/":
        _make(root, above, made, directory=True, links=links)
    parent = kernel.open_in_root(root, above, os.O_PATH | os.O_DIRECTORY)
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        made.insert(0, _create(parent, name, directory=directory))
        return
    if stat.S_ISLNK(status.st_mode) and links:
        target = os.readlink(name, dir_fd=parent)
        os.close(parent)
        place = posixpath.normpath(posixpath.join(above, target))
        _make(root, "/" + place.lstrip("/"), made, directory=directory, links=links - 1)


def _create(parent: int, name: str, *, directory: bool) -> Placeholder:
    if directory:
        os.mkdir(name, 0o755, dir_fd=parent)
    else:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=parent))
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return Placeholder(parent, name, status.st_ino, directory)


def enter(root_path: Path, work: Path, action: RunAction, files: list[str]) -> None:
    """Make the step's view and move into it. The caller is in a mount namespace of its own and
    PID 1 of its PID namespace; afterwards nothing of the host is mounted any more."""
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    root = os.open(root_path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    device_stage, process_stage = work / "dev", work / "proc"
    _stage_devices(device_stage, action)
    _stage_processes(process_stage)
    contents = {posixpath.basename(path): path for path in files}
    for name, path in contents.items():
        _mount_at(root, path, str(device_stage / ".vmorch" / name), kernel.MS_BIND)
    for number, mount in enumerate(action.mounts):
        place = mounts.stage(mount, number, work)
        _mount_at(root, mount.target, str(place), kernel.MS_MOVE)
    _mount_at(root, "/dev", str(device_stage), kernel.MS_MOVE)
    _mount_at(root, "/proc", str(process_stage), kernel.MS_MOVE)
    os.chdir(root_path)
    kernel.pivot_root(".", ".")
    kernel.unmount(".", kernel.MNT_DETACH)
    os.chdir("/")
    os.close(root)


def _mount_at(root: int, path: str, source: str, flags: int) -> None:
    target = kernel.open_in_root(root, path, os.O_PATH)
    try:
        kernel.mount(source, f"/proc/self/fd/{target}", "", flags)
    finally:
        os.close(target)


def _stage_devices(stage: Path, action: RunAction) -> None:
    stage.mkdir()
    safe = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("dev", str(stage), "tmpfs", safe, "mode=755,size=64m")
    for name in _DEVICES:
        (stage / name).touch()
        _bind_device(name, stage / name)
    for name, target in _LINKS.items():
        (stage / name).symlink_to(target)
    (stage / "pts").mkdir()
    options = "newinstance,ptmxmode=0666,mode=620,gid=5"
    kernel.mount(
        "devpts", str(stage / "pts"), "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, options
    )
    (stage / "shm").mkdir()
    kernel.mount("shm", str(stage / "shm"), "tmpfs", safe | kernel.MS_NOEXEC, _SHARED_MEMORY)
    _stage_files(stage / ".vmorch", action)


def _bind_device(name: str, place: Path) -> None:
    """The host's device. Read-only, it can be written to as before, but not changed itself: its
    mode, owner and times are the host's."""
    kernel.mount(f"/dev/{name}", str(place), "", kernel.MS_BIND)
    again = kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY
    kernel.mount("none", str(place), "", again | kernel.MS_NOSUID | kernel.MS_NOEXEC)


def _stage_files(stage: Path, action: RunAction) -> None:
    stage.mkdir(mode=0o755)
    files = {"hosts": (_HOSTS, 0o644), "policy-rc.d": (_POLICY, 0o755)}
    files["resolv.conf"] = (action.resolv_conf, 0o644)
    if action.script:
        files["script"] = (action.script, 0o755)
    for name, (text, mode) in files.items():
        (stage / name).write_text(text)
        (stage / name).chmod(mode)
    if action.certificates:
        (stage / "ca-certificates.crt").write_bytes(Path(action.certificates).read_bytes())


def _stage_processes(stage: Path) -> None:
    stage.mkdir()
    closed = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", str(stage), "proc", closed)
    for name in _READ_ONLY:
        path = stage / name
        if path.exists():
            kernel.mount(str(path), str(path), "", kernel.MS_BIND | kernel.MS_REC)
            again = kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | closed
            kernel.mount("none", str(path), "", again)
    for name in _HIDDEN:
        path = stage / name
        if path.is_dir():
            kernel.mount("none", str(path), "tmpfs", closed | kernel.MS_RDONLY, "size=0")
        elif path.exists():
            _bind_device("null", path)
