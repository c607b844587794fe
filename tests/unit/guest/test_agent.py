"""The agent's side is played by local processes, so the shell text that is sent really runs."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vmorch.effects import SystemClock
from vmorch.errors import GuestError
from vmorch.guest import agent as module
from vmorch.guest.access import GuestAccess
from vmorch.guest.agent import Agent, bounded, parse_report
from vmorch.model.guest import GuestReport
from vmorch.simulation.virtual import VirtualClock, run_virtually


@dataclass
class LocalAgent:
    """Answers as qemu-ga does. `shell` stands in for the guest's /bin/sh."""

    shell: tuple[str, ...] = ("/bin/sh",)
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    async def __call__(
        self, domain: str, command: str, arguments: dict[str, Any], timeout: float
    ) -> Any:
        if command == "guest-exec":
            argv = [arguments["path"], *arguments["arg"]]
            if argv[0] == "/bin/sh":
                argv[0:1] = self.shell
            process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.processes[process.pid] = process
            return {"pid": process.pid}
        process = self.processes[arguments["pid"]]
        try:
            out, err = await asyncio.to_thread(process.communicate, timeout=0.05)
        except subprocess.TimeoutExpired:
            return {"exited": False}
        code = process.returncode
        ending = {"exitcode": code} if code >= 0 else {"signal": -code}
        output = {"out-data": out, "err-data": err}
        coded = {k: base64.b64encode(v).decode() for k, v in output.items() if v}
        return {"exited": True, **ending, **coded}


@pytest.fixture(params=[("/bin/sh",), ("busybox", "sh")], ids=["sh", "busybox"])
def run(request: pytest.FixtureRequest) -> Callable[..., tuple[int, bytes]]:
    def go(*argv: str, timeout: float = 20) -> tuple[int, bytes]:
        agent = Agent(LocalAgent(request.param), SystemClock())
        return asyncio.run(agent.run("d", argv, timeout))

    return go


def answering(*answers: Any) -> Callable[..., Awaitable[Any]]:
    waiting = list(answers)

    async def call(domain: str, command: str, arguments: dict[str, Any], timeout: float) -> Any:
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return call


def test_code_and_both_streams(run) -> None:
    assert run("sh", "-c", "echo out; echo err >&2; exit 7") == (7, b"out\nerr\n")


def test_arguments_arrive_as_they_are(run) -> None:
    assert run("printf", "%s|", "a b", "", "$HOME", "it's", "x\ny") == (0, b"a b||$HOME|it's|x\ny|")


def test_an_unknown_program(run) -> None:
    code, output = run("no-such-program")
    assert code == 127
    assert b"no-such-program" in output


def test_output_is_cut_and_the_command_goes_on(run, monkeypatch) -> None:
    monkeypatch.setattr(module, "OUTPUT_LIMIT_BYTES", 1000)
    script = "i=0; while [ $i -lt 30000 ]; do echo 0123456789; i=$((i+1)); done; exit 5"
    code, output = run("sh", "-c", script)
    assert code == 5
    assert output == (b"0123456789\n" * 100)[:1000]


def test_a_command_ended_by_a_signal(run) -> None:
    assert run("sh", "-c", "kill -TERM $$")[0] == 143


@pytest.mark.parametrize("tools", ["coreutils", "busybox"])
def test_what_a_command_started_ends_with_it_when_its_time_is_over(
    tools: str, tmp_path: Path
) -> None:
    """Whatever is left of it would hold the pipe open."""
    path = os.environ["PATH"] if tools == "coreutils" else str(busybox_only(tmp_path))
    command = bounded(["sh", "-c", "sleep 30 & sleep 30; true"], 0.1)
    done = subprocess.run(command, env={"PATH": path}, capture_output=True, timeout=20, check=False)
    assert done.returncode == 137


def busybox_only(directory: Path) -> Path:
    program = shutil.which("busybox")
    assert program is not None
    for applet in ("sh", "setsid", "timeout", "sleep", "head", "cat"):
        (directory / applet).symlink_to(program)
    return directory


def test_the_guest_is_given_longer_than_the_host_waits() -> None:
    started: list[list[str]] = []

    async def call(domain: str, command: str, arguments: dict[str, Any], timeout: float) -> Any:
        if command == "guest-exec":
            started.append([arguments["path"], *arguments["arg"]])
        return {"pid": 1, "exited": False}

    async def body() -> None:
        with pytest.raises(GuestError, match="did not end within"):
            await Agent(call, VirtualClock()).run("d", ["sleep", "600"], 4.2)

    run_virtually(body())
    assert started == [bounded(["sleep", "600"], 6)]


def test_looks_become_rarer_and_end_with_the_time_out() -> None:
    looks: list[float] = []

    async def call(domain: str, command: str, arguments: dict[str, Any], timeout: float) -> Any:
        looks.append(asyncio.get_running_loop().time())
        return {"pid": 1} if command == "guest-exec" else {"exited": False}

    async def body() -> None:
        with pytest.raises(GuestError) as caught:
            await Agent(call, VirtualClock()).execute("d", ["/bin/x"], 10)
        assert caught.value.retryable

    run_virtually(body())
    assert looks[2] - looks[1] < 0.05
    assert len(looks) < 40
    assert looks[-1] < 10.001


@pytest.mark.parametrize(
    "answers",
    [
        ["nonsense"],
        [{}],
        [{"pid": 1}, None],
        [{"pid": 1}, {"exited": True}],
        [{"pid": 1}, {"exited": True, "exitcode": 0, "out-data": "%"}],
        [{"pid": 1}, GuestError("the agent went away")],
    ],
)
def test_malformed_answers_are_errors_of_ours(answers: list[Any]) -> None:
    agent = Agent(answering(*answers), SystemClock())
    with pytest.raises(GuestError):
        asyncio.run(agent.execute("d", ["/bin/x"], 5))


def test_the_report_runs_the_identity_program() -> None:
    said = b'{"instance_id": "i", "service": "failed", "exit_code": 3, "cloud_init": "off"}'
    asked: list[Any] = []

    async def call(domain: str, command: str, arguments: dict[str, Any], timeout: float) -> Any:
        asked.append(arguments)
        if command == "guest-exec":
            return {"pid": 5}
        return {"exited": True, "exitcode": 0, "out-data": base64.b64encode(said).decode()}

    report = asyncio.run(Agent(call, SystemClock()).report("d", 5))
    assert report == GuestReport(instance_id="i", service="failed", cloud_init="off", exit_code=3)
    assert asked[0]["path"] == "/usr/lib/vmorch/vmorch-identity"
    assert asked[0]["arg"] == ["status"]
    assert asked[1] == {"pid": 5}


class ResumedAgent:
    """Is there from the third ping on, each of which takes a quarter of a second; then `code`."""

    def __init__(self, clock: VirtualClock, code: int = 0, absent: int = 2) -> None:
        self.clock, self.code, self.absent = clock, code, absent
        self.started: list[list[str]] = []

    async def __call__(
        self, domain: str, command: str, arguments: dict[str, Any], timeout: float
    ) -> Any:
        if command == "guest-ping":
            await self.clock.sleep(0.25)
            self.absent -= 1
            if self.absent >= 0:
                raise GuestError("not connected", retryable=True)
            return {}
        if command == "guest-exec":
            self.started.append([arguments["path"], *arguments["arg"]])
            return {"pid": 5}
        words = base64.b64encode(b"the hook said no\n").decode()
        return {"exited": True, "exitcode": self.code, "err-data": words}


class DeafAgent(ResumedAgent):
    """Does not answer the first command in time."""

    async def __call__(
        self, domain: str, command: str, arguments: dict[str, Any], timeout: float
    ) -> Any:
        answer = await super().__call__(domain, command, arguments, timeout)
        if command == "guest-exec" and len(self.started) == 1:
            await self.clock.sleep(1)
            raise GuestError("did not answer", retryable=True)
        return answer


def resumed(agent: ResumedAgent) -> GuestAccess:
    return GuestAccess(agent, agent.clock)


def test_a_fork_is_told_the_time_when_its_agent_has_come() -> None:
    async def body() -> None:
        clock = VirtualClock()
        agent = ResumedAgent(clock)
        await resumed(agent).become("d", epoch=100.5, keep_service=False, timeout_seconds=30)
        await resumed(agent).become("d", epoch=200.0, keep_service=True, timeout_seconds=30)
        apply = ["/usr/lib/vmorch/vmorch-identity", "apply", "--fork"]
        assert agent.started == [
            [*apply, "101.450"],
            [*apply, "200.250", "keep"],
        ]

    run_virtually(body())


def test_who_wakes_is_told_at_once_and_again_if_it_did_not_hear() -> None:
    async def body() -> None:
        clock = VirtualClock()
        agent = DeafAgent(clock)
        await GuestAccess(agent, clock).wake("d", epoch=300.0, timeout_seconds=30)
        program = ["/usr/lib/vmorch/vmorch-guest", "wake"]
        # The time that passed meanwhile is added.
        assert agent.started == [[*program, "300.000"], [*program, "301.100"]]

    run_virtually(body())


def test_a_fork_that_fails_says_why_and_is_not_tried_again() -> None:
    async def body() -> None:
        agent = ResumedAgent(VirtualClock(), code=1)
        with pytest.raises(GuestError, match="ended with 1: the hook said no") as caught:
            await resumed(agent).become("d", epoch=1, keep_service=False, timeout_seconds=30)
        assert not caught.value.retryable
        assert len(agent.started) == 1

    run_virtually(body())


def test_an_agent_that_never_comes_is_waited_for_as_long_as_asked() -> None:
    async def body() -> None:
        clock = VirtualClock()
        agent = ResumedAgent(clock, absent=1000)
        began = clock.now()
        with pytest.raises(GuestError, match="not connected"):
            await resumed(agent).become("d", epoch=1, keep_service=False, timeout_seconds=3)
        assert 3 <= clock.now() - began < 4
        assert agent.started == []

    run_virtually(body())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"instance_id": "i", "service": "dancing", "cloud_init": "off"}',
        b'{"instance_id": "i", "service": "none", "cloud_init": "maybe"}',
        b'{"instance_id": "i", "service": "none", "cloud_init": "off", "exit_code": "x"}',
        b"\xff",
    ],
)
def test_nonsense_is_no_report(text: bytes) -> None:
    with pytest.raises(GuestError):
        parse_report("d", text)
