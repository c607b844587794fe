"""Programs that a base is built with: their output as progress, their failure as BuildFailed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vmorch.errors import BuildFailed
from vmorch.images.worker_process import end

_PASSED = ("PATH", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY")
_PASSED_TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "APT_CONFIG")
_TAIL_LINES = 40
# The parent-death signal outlives exec: a build must not go on writing after its daemon's end.
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")

Say = Callable[[str], None]


def build_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The way out that the host has (proxies, certificates), and nothing else of its variables."""
    passed = {key: os.environ[key] for key in (*_PASSED, *_PASSED_TRUST) if key in os.environ}
    passed.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return {**passed, "HOME": "/root", "LC_ALL": "C.UTF-8", **(more or {})}


async def run(
    argv: Sequence[str | Path],
    *,
    say: Say,
    hint: str = "",
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> list[str]:
    """Run a program to its end, each line of its output given to `say`; returns all lines.

    A caller that is cancelled takes the program and its children along; so does one that is
    killed, as far as the program takes its own children along ("unshare --kill-child").

    Raises:
        BuildFailed: the program is not there, or ended with another code than 0.
    """
    words = [str(word) for word in argv]
    if shutil.which(words[0]) is None:
        raise BuildFailed(
            f"The program {words[0]} is not on this host.",
            hint=hint or f"Install the package that has {words[0]}; 'vmorch doctor' names it.",
        )
    process = await asyncio.create_subprocess_exec(
        *_DIES_WITH_US,
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=build_environment(environment),
        cwd=directory,
        start_new_session=True,
    )
    try:
        lines = await _lines(process, say)
        code = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await end(process)
    if code != 0:
        tail = "\n".join(deque(lines, _TAIL_LINES))
        last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        raise BuildFailed(
            f"{Path(words[0]).name} ended with code {code}: {last.strip()}", hint=hint, output=tail
        )
    return lines


async def _lines(process: asyncio.subprocess.Process, say: Say) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    async for raw in process.stdout:
        line = raw.decode(errors="replace").rstrip()
        lines.append(line)
        say(line)
    return lines
