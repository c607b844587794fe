"""The layer as a raw file: the storage daemon's FUSE export, and a loop device over it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmorch.images.worker import kernel
from vmorch.images.worker.job import Volume

_START_SECONDS = 20.0
_STOP_SECONDS = 120.0
_PROGRAM = "qemu-storage-daemon"

_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_READ_ONLY = 1
_LO_FLAGS_AUTOCLEAR = 4
_LOOP_TRIES = 64


class ExportFailed(Exception):
    """The storage daemon or the loop device did not come up; the text says why."""


@dataclass(frozen=True, slots=True)
class Exports:
    """Raw files that the process `server` serves; `layer` None: there is nothing to write."""

    layer: Path | None
    sources: list[Path]
    server: int


@contextmanager
def exported(
    *, disk: Volume | None, backing: str, sources: Sequence[Volume], work: Path
) -> Iterator[Exports]:
    """Serve `disk` writable and `sources` read-only.

    Leaves only when the storage daemon has closed the layer, so that it is whole on disk.
    """
    arguments = [_PROGRAM]
    layer = work / "layer.raw"
    if disk is not None:
        layer.touch()
        arguments += ["--blockdev", _parent(backing, "parent")]
        arguments += ["--blockdev", _overlay(disk.path)]
        arguments += ["--export", _fuse("layer", layer, writable=True)]
    files = [work / f"source-{number}.raw" for number in range(len(sources))]
    for file, source in zip(files, sources, strict=True):
        file.touch()
        arguments += ["--blockdev", _parent(source.path, file.stem)]
        arguments += ["--export", _fuse(file.stem, file, writable=False)]
    log = work / "storage-daemon.log"
    process = _start(arguments, log)
    try:
        _wait_for_exports(process, files if disk is None else [layer, *files], log)
        yield Exports(None if disk is None else layer, files, process)
    finally:
        _stop(process)


def _parent(path: str, name: str) -> str:
    file = {"driver": "file", "filename": path, "read-only": True}
    return json.dumps({"driver": "qcow2", "node-name": name, "file": file, "read-only": True})


def _overlay(path: str) -> str:
    # Flushes mean nothing before the layer is published: the daemon then syncs the whole file.
    # The backing file is named here, as the header's relative name holds only in the store.
    cache = {"no-flush": True}
    file: dict[str, Any] = {"driver": "file", "filename": path, "cache": cache}
    file["discard"] = "unmap"  # what a step deletes again takes no room
    return json.dumps(
        {
            "driver": "qcow2",
            "node-name": "layer",
            "file": file,
            "backing": "parent",
            "discard": "unmap",
            "cache": cache,
        }
    )


def _fuse(name: str, mountpoint: Path, *, writable: bool) -> str:
    export = {
        "type": "fuse",
        "id": name,
        "node-name": name,
        "mountpoint": str(mountpoint),
        "writable": writable,
        "allow-other": "off",
    }
    return json.dumps(export)


def _start(arguments: list[str], log: Path) -> int:
    parent = os.getpid()
    process = os.fork()
    if process:
        return process
    try:
        kernel.die_with_parent(parent)
        null = os.open("/dev/null", os.O_RDONLY)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for descriptor, number in ((null, 0), (output, 1), (output, 2)):
            os.dup2(descriptor, number)
        os.execvp(arguments[0], arguments)
    except OSError as error:
        os.write(2, f"{arguments[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _wait_for_exports(process: int, files: list[Path], log: Path) -> None:
    """An export is there when the file on which it is mounted got its size."""
    deadline = time.monotonic() + _START_SECONDS
    while any(file.stat().st_size == 0 for file in files):
        ended, _ = os.waitpid(process, os.WNOHANG)
        if ended or time.monotonic() > deadline:
            said = log.read_text(errors="replace").strip() or "it said nothing"
            raise ExportFailed(f"{_PROGRAM} did not export the layer: {said}")
        time.sleep(0.002)


def _stop(process: int) -> None:
    """SIGTERM closes the exports and writes the layer's tables."""
    deadline = time.monotonic() + _STOP_SECONDS
    try:
        os.kill(process, signal.SIGTERM)
        while time.monotonic() < deadline:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                if status:
                    raise ExportFailed(f"{_PROGRAM} ended with status {status}")
                return
            time.sleep(0.002)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    except (ChildProcessError, ProcessLookupError):
        return
    raise ExportFailed(f"{_PROGRAM} did not end within {_STOP_SECONDS:.0f} s")


def mount_image(file: Path, target: Path, volume: Volume, *, writable: bool) -> None:
    """Mount the file system of `volume`, whose raw form is `file`, through a loop device that
    clears itself.

    `nodev`: a RUN step may make device nodes for the guest; none may be opened here.
    """
    device = _attach(file, volume, writable=writable)
    try:
        flags = kernel.MS_NODEV | kernel.MS_NOATIME
        # Overlays of one image are the same file system to XFS, which it refuses to mount twice.
        words = ["nouuid"] if volume.file_system == "xfs" else []
        if writable:
            words.append("discard")
        else:
            flags |= kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NOEXEC
            words.append("norecovery" if volume.file_system == "xfs" else "noload")
        source = f"/dev/loop{_loop_number(device)}"
        kernel.mount(source, str(target), volume.file_system, flags, ",".join(words))
    finally:
        os.close(device)


def _loop_number(device: int) -> int:
    return os.minor(os.fstat(device).st_rdev)


def _attach(file: Path, volume: Volume, *, writable: bool) -> int:
    """An open loop device over `file`. It detaches at its last close (LO_FLAGS_AUTOCLEAR)."""
    access = os.O_RDWR if writable else os.O_RDONLY
    backing = os.open(file, access | os.O_CLOEXEC)
    try:
        for _ in range(_LOOP_TRIES):
            device = os.open(f"/dev/loop{_free_loop()}", access | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, _loop_config(backing, file, volume, writable))
                return device
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:  # another process took it first
                    raise
    finally:
        os.close(backing)
    raise ExportFailed("no loop device is free")


def _free_loop() -> int:
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        return int(fcntl.ioctl(control, _LOOP_CTL_GET_FREE))
    finally:
        os.close(control)


def _loop_config(backing: int, file: Path, volume: Volume, writable: bool) -> bytes:
    """struct loop_config of <linux/loop.h>: descriptor, block size, loop_info64, reserved."""
    flags = _LO_FLAGS_AUTOCLEAR | (0 if writable else _LO_FLAGS_READ_ONLY)
    name = os.fsencode(file)[-63:]
    places = (0, 0, 0, volume.offset, volume.length)
    info = struct.pack("=5Q4I64s64s32s2Q", *places, 0, 0, 0, flags, name, b"", b"", 0, 0)
    return struct.pack("=II", backing, volume.sector) + info + bytes(64)
