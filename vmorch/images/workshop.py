"""Runs the worker for one job: its phases, its output within bounds, its end in every case."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from asyncio import StreamReader
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vmorch.effects import Faults
from vmorch.images import worker_process
from vmorch.images.worker.job import Job

LOG_LINES = 20_000
LINE_CHARACTERS = 4_000
_TAIL_LINES = 60
_CHUNK = 65536
_CORRECT = "Correct the instruction and build again."
_BOUNDS = (
    "Let it do less at once; the daemon's settings 'build_memory_bytes' and 'build_processes' say "
    "what a step may have."
)
_KILLED = 128 + signal.SIGKILL
_CONCEALED = "***"
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(slots=True)
class Outcome:
    """`error` is why the step could not be done (not the command's own failure), `bug` says that
    it should not have happened; `tail` is the end of the output. `exceeded` says which bound of
    the step was reached."""

    exit_code: int = 1
    error: str = ""
    bug: bool = False
    timed_out: bool = False
    exceeded: str = ""
    phases: list[str] = field(default_factory=list)
    tail: str = ""
    content: str = ""
    findings: dict[str, Any] = field(default_factory=dict)

    def failure(self, limit_seconds: float) -> tuple[str, str]:
        """Why it failed, and what to do about it; "" when it did not."""
        if self.timed_out:
            more = f" ({self.exceeded})" if self.exceeded else ""
            message = f"it took more than {limit_seconds:.0f} s and was ended{more}"
            return message, "Make the step shorter, or split it."
        if self.error:
            ours = "This is a mistake in vmorch; report it with the output of 'vmorch version'."
            return self.error, ours if self.bug else _CORRECT
        if self.exit_code and self.exceeded:
            killed = self.exit_code == _KILLED
            ended = "was killed" if killed else f"ended with code {self.exit_code}"
            return f"the command {ended}: {self.exceeded}", _BOUNDS
        if self.exit_code:
            return f"the command ended with code {self.exit_code}", "Its last output is above."
        if "closed" not in self.phases:
            return "the builder's worker ended before the layer was written", _CORRECT
        return "", ""


class Output:
    """Lines of a step, made harmless for a terminal; after too many, one says so. `hidden` are
    secrets: what they say is never shown, line by line."""

    def __init__(self, say: Callable[[str], None], hidden: Sequence[str] = ()) -> None:
        self._say = say
        lines = {line.strip() for text in hidden for line in text.splitlines()}
        self._hidden = sorted((line for line in lines if line), key=len, reverse=True)
        self._partial = ""
        self._count = 0
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def feed(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data.decode(errors="replace")).split("\n")
        if self._count > LOG_LINES:  # nobody is told any more: a flood must not cost much
            lines = lines[-_TAIL_LINES:]
        for line in lines:
            self._take(line)
        # A bar that draws itself over and over has no line ends.
        if len(self._partial) > 2 * LINE_CHARACTERS:
            self._partial = self._concealed(self._partial)[-LINE_CHARACTERS:]

    def close(self) -> None:
        if self._partial:
            self._take(self._partial)
            self._partial = ""

    def _concealed(self, text: str) -> str:
        for secret in self._hidden:
            text = text.replace(secret, _CONCEALED)
        return text

    @property
    def tail(self) -> str:
        return "\n".join(self._tail)

    def _take(self, line: str) -> None:
        visible = _ESCAPES.sub("", line.rstrip("\r").rpartition("\r")[2])
        visible = self._concealed(_CONTROLS.sub("", visible))[:LINE_CHARACTERS]
        self._tail.append(visible)
        self._count += 1
        if self._count <= LOG_LINES:
            self._say(visible)
        elif self._count == LOG_LINES + 1:
            self._say(f"(more than {LOG_LINES} lines; the rest is not shown)")


class Workers:
    """Starts workers. Once there was a job, one waits for the next: starting Python takes longer
    than a small layer.

    The event loop must run in a thread that lives on: a worker dies with the thread that started
    it (PR_SET_PDEATHSIG)."""

    def __init__(self) -> None:
        self._spare: asyncio.Task[Process] | None = None

    async def do(
        self,
        job: Job,
        *,
        say: Callable[[str], None],
        hidden: Sequence[str] = (),
        limit_seconds: float,
        faults: Faults,
    ) -> Outcome:
        """Run one job to its end. Cancelled, it ends the worker and all below it first."""
        outcome, output = Outcome(), Output(say, hidden)
        process = await self._worker()
        try:
            async with asyncio.timeout(limit_seconds):
                await _converse(process, job, outcome, output, faults)
                outcome.exit_code = await process.wait()
        except TimeoutError:
            outcome.timed_out = True
        finally:
            await asyncio.shield(worker_process.end(process))
        output.close()
        outcome.tail = output.tail
        if self._spare is None:
            self._spare = asyncio.create_task(worker_process.start("main"), name="spare-worker")
        return outcome

    async def _worker(self) -> Process:
        """The one that waits, if it is fit for it, or a new one."""
        spare, self._spare = self._spare, None
        if spare is None:
            return await worker_process.start("main")
        if spare.get_loop() is not asyncio.get_running_loop():
            _kill(spare)
            return await worker_process.start("main")
        process = await spare
        return process if process.returncode is None else await worker_process.start("main")

    async def close(self) -> None:
        """End the one that waits."""
        spare, self._spare = self._spare, None
        if spare is not None:
            await worker_process.end(await spare)


def _kill(spare: asyncio.Task[Process]) -> None:
    """End a worker whose event loop is gone."""
    if spare.done() and not spare.cancelled() and spare.exception() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(spare.result().pid, signal.SIGKILL)


async def _converse(
    process: Process, job: Job, outcome: Outcome, output: Output, faults: Faults
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_feed(process, job))
            group.create_task(_relay(process.stdout, output))
            group.create_task(_listen(process.stderr, outcome, faults))
    except* (BrokenPipeError, ConnectionResetError):
        outcome.error = outcome.error or "the builder's worker ended unexpectedly"


async def _feed(process: Process, job: Job) -> None:
    assert process.stdin is not None
    process.stdin.write(job.to_json().encode())
    await process.stdin.drain()
    process.stdin.close()


async def _relay(stream: StreamReader, output: Output) -> None:
    while data := await stream.read(_CHUNK):
        output.feed(data)


async def _listen(stream: StreamReader, outcome: Outcome, faults: Faults) -> None:
    """What the worker itself says: one JSON object a line; anything else is its last words."""
    while line := await stream.readline():
        try:
            said = json.loads(line)
        except json.JSONDecodeError:
            outcome.error = line.decode(errors="replace").strip() or outcome.error
            outcome.bug = True
            continue
        if "error" in said:
            outcome.error = outcome.error or said["error"]
            outcome.bug = outcome.bug or bool(said.get("bug"))
        outcome.findings = said.get("findings", outcome.findings)
        outcome.content = said.get("content", outcome.content)
        if "phase" in said:
            outcome.phases.append(said["phase"])
            await faults.at(f"image.layer.{said['phase']}")
