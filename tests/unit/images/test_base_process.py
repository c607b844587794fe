"""Programs of a base's build: what they say, how they fail, that none outlives its caller."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vmorch.errors import BuildFailed
from vmorch.images.base_process import run


def silent(line: str) -> None:
    del line


def test_lines_are_said_as_they_come_and_returned() -> None:
    said: list[str] = []
    lines = asyncio.run(run(["sh", "-c", "echo one; echo two >&2"], say=said.append))
    assert lines == said == ["one", "two"]


def test_a_failure_has_the_last_words_and_the_tail() -> None:
    script = "seq 100; echo 'E: no such package'; echo; exit 100"
    with pytest.raises(BuildFailed) as caught:
        asyncio.run(run(["sh", "-c", script], say=silent, hint="Try again."))
    assert caught.value.message == "sh ended with code 100: E: no such package"
    assert caught.value.hint == "Try again."
    assert caught.value.output.startswith("63\n")


def test_an_absent_program_is_named() -> None:
    with pytest.raises(BuildFailed, match="no-such-program is not on this host"):
        asyncio.run(run(["no-such-program"], say=silent))


def test_of_the_environment_only_the_way_out_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    lines = asyncio.run(run(["env"], say=silent, environment={"MORE": "1"}))
    assert "https_proxy=http://proxy.test:3128" in lines
    assert "MORE=1" in lines
    assert not [line for line in lines if line.startswith("SECRET")]


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except FileNotFoundError:
        return True


def wait_for_end(pid: int) -> None:
    limit = time.monotonic() + 10
    while not ended(pid):
        assert time.monotonic() < limit, f"process {pid} goes on"
        time.sleep(0.02)


def test_a_cancelled_caller_takes_the_program_and_its_children_along() -> None:
    pids: list[str] = []

    async def cancelled() -> None:
        started = asyncio.Event()

        def say(line: str) -> None:
            pids.append(line)
            if len(pids) == 2:
                started.set()

        script = "sleep 60 & echo $!; echo $$; wait"
        task = asyncio.create_task(run(["sh", "-c", script], say=say))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    for pid in pids:
        wait_for_end(int(pid))


def test_a_killed_caller_takes_the_program_along() -> None:
    script = (
        "import asyncio; from vmorch.images.base_process import run; "
        "asyncio.run(run(['sh', '-c', 'echo $$; exec sleep 60'], "
        "say=lambda line: print(line, flush=True)))"
    )
    caller = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    pid = int(caller.stdout.readline())
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    caller.stdout.close()
    wait_for_end(pid)
