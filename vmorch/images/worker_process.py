"""Starts a worker's Python.

PID 1 of a RUN step is a fork of the worker, and `/proc/1/exe` leads from inside the step to the
file that it runs. So that file is none of the host's: it is a sealed copy in memory, made once.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
import sys
from asyncio import StreamReader
from asyncio.subprocess import PIPE, Process
from pathlib import Path

_CHUNK = 1 << 16
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ROOT = str(Path(__file__).parents[2])
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


async def start(module: str) -> Process:
    """One that runs `main` of a module of `worker/`; it dies with this thread."""
    return await start_python(
        f"import sys; sys.path.insert(0, {_ROOT!r}); "
        f"from vmorch.images.worker.{module} import main; main({os.getpid()})"
    )


async def start_python(program: str) -> Process:
    """Python with nothing of this process's surroundings, and pipes to talk to it."""
    interpreter = sealed_copy(sys.executable)
    return await asyncio.create_subprocess_exec(
        # By its name Python finds its library; what runs is the copy.
        *(sys.executable, "-I", "-S", "-B", "-c", program),
        executable=f"/proc/self/fd/{interpreter}",
        pass_fds=(interpreter,),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={"PATH": _PATH, "LC_ALL": "C.UTF-8"},
        cwd="/",
    )


async def end(process: Process) -> None:
    """Kill it, unless it has ended, and wait for its end and that of all that writes to its pipes.

    What they hold is read away first: asyncio does not notice the end of a pipe that is full.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.gather(*map(_read_away, (process.stdout, process.stderr)))
        await process.wait()


async def _read_away(stream: StreamReader | None) -> None:
    while stream is not None and await stream.read(_CHUNK):
        pass


@functools.cache
def sealed_copy(path: str) -> int:
    """A descriptor, kept open, of a copy in memory that nobody can write to any more."""
    copy = os.memfd_create("python", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    with Path(path).open("rb") as source:
        size, at = os.fstat(source.fileno()).st_size, 0
        while at < size:
            at += os.sendfile(copy, source.fileno(), at, size - at)
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _SEALS)
    return copy
