"""A worker's Python is a copy that leads nowhere."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from vmorch.images import worker_process


async def _asked(expression: str) -> str:
    """What a worker's Python says of itself."""
    process = await worker_process.start_python(f"import os, sys; print({expression})")
    said, _ = await process.communicate()
    return said.decode().strip()


def asked(expression: str) -> str:
    return asyncio.run(_asked(expression))


def test_the_interpreter_is_no_file_of_the_host() -> None:
    assert asked("os.readlink('/proc/self/exe')").startswith("/memfd:python")


def test_who_changes_the_mode_of_a_workers_interpreter_changes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "python"  # never the real one: without the copy in memory it would be set-uid
    shutil.copy(sys.executable, own)
    monkeypatch.setattr(sys, "executable", str(own))
    before = own.stat()
    assert asked("os.chmod('/proc/self/exe', 0o4755)") == "None"
    assert (own.stat().st_mode, own.stat().st_ctime_ns) == (before.st_mode, before.st_ctime_ns)


def test_the_copy_is_made_once_and_cannot_be_written() -> None:
    copy = worker_process.sealed_copy(sys.executable)
    assert worker_process.sealed_copy(sys.executable) == copy
    with pytest.raises(PermissionError):
        os.pwrite(copy, b"x", 0)


def test_it_finds_its_library_in_a_virtual_environment_and_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    for executable in (sys.executable, base):
        monkeypatch.setattr(sys, "executable", executable)
        assert asked("os.__file__") == os.__file__
        assert asked("sys.executable") == executable


def test_a_worker_without_a_job_ends() -> None:
    async def ended() -> int | None:
        process = await worker_process.start("main")
        await process.communicate(b"")
        return process.returncode

    assert asyncio.run(ended()) == 0


def test_one_that_says_more_than_anybody_reads_is_ended() -> None:
    async def ended() -> int | None:
        process = await worker_process.start_python("while True: print('x' * 10000)")
        assert process.stdout is not None
        await process.stdout.read(1)
        await asyncio.sleep(0.2)  # until its pipe is full, and asyncio has stopped listening
        async with asyncio.timeout(20):
            await worker_process.end(process)
        return process.returncode

    assert asyncio.run(ended()) == -signal.SIGKILL
