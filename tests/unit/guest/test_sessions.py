"""Exec sessions by the agent, and what is the same for SSH: the socket and its life."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vmorch.effects import SystemClock, SystemEntropy
from vmorch.errors import GuestError, HypervisorError
from vmorch.guest import agent_session, sessions
from vmorch.guest.sessions import ExecSessionServer
from vmorch.model import frames
from vmorch.model.exec import ExecRequest
from vmorch.model.frames import Frame, FrameType


@dataclass
class ScriptedAgent:
    """The command ends when it is `let_go` or signalled."""

    output: bytes = b"hello\n"
    code: int = 0
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    commands: list[list[str]] = field(default_factory=list)
    signals: list[str] = field(default_factory=list)

    async def __call__(
        self, domain: str, command: str, arguments: dict[str, Any], timeout: float
    ) -> Any:
        match command:
            case "guest-ping":
                return {}
            case "guest-exec" if "signal=$2" in arguments["arg"][1]:
                self.signals.append(arguments["arg"][-1])
                self.code = 130
                self.let_go.set()
                return {"pid": 2}
            case "guest-exec":
                self.commands.append(arguments["arg"])
                return {"pid": 1}
        if arguments["pid"] == 2:
            return {"exited": True, "exitcode": 0}
        if not self.let_go.is_set():
            return {"exited": False}
        output = base64.b64encode(self.output).decode()
        return {"exited": True, "exitcode": self.code, "out-data": output}


def request(**changes: Any) -> ExecRequest:
    values: dict[str, Any] = {
        "domain": "d",
        "address": "127.0.0.1",
        "argv": ("cat", "a b"),
        "tty": False,
        "user": "app",
        "environment": {"A": "1"},
        "working_dir": "/srv",
        "has_agent": True,
    }
    return ExecRequest(**{**values, **changes})


async def no_console(domain: str) -> int:
    raise HypervisorError(f"There is no guest {domain}.")


@pytest.fixture
def with_server(tmp_path: Path) -> Callable[..., None]:
    def run(body: Callable[[ExecSessionServer, ScriptedAgent], Awaitable[None]]) -> None:
        async def whole() -> None:
            async def host_key_for(domain: str) -> str:
                return "ssh-ed25519 AAAA"

            agent = ScriptedAgent()
            server = ExecSessionServer(
                exec_dir=tmp_path / "x",
                client_key=tmp_path / "key",
                host_key_for=host_key_for,
                agent=agent,
                console=no_console,
                clock=SystemClock(),
                entropy=SystemEntropy(),
            )
            async with asyncio.timeout(20):
                await body(server, agent)
            await server.close()

        asyncio.run(whole())

    return run


async def everything(reader: asyncio.StreamReader) -> list[Frame]:
    return list(frames.Decoder().feed(await reader.read()))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to be")


def test_output_and_exit_code_come_after_the_end(with_server) -> None:
    async def body(server: ExecSessionServer, agent: ScriptedAgent) -> None:
        agent.code = 3
        agent.let_go.set()
        path = await server.open(request())
        assert path.stat().st_mode & 0o777 == 0o660
        assert len(path.name) == 32
        reader, writer = await asyncio.open_unix_connection(path)
        assert await everything(reader) == [
            Frame(FrameType.STDOUT, b"hello\n"),
            frames.exit_(3),
        ]
        writer.close()
        assert not path.exists()
        assert agent.commands[0][-6:] == ["app", "/srv", "1", "A=1", "cat", "a b"]

    with_server(body)


def test_signals_reach_the_command_and_input_is_said_to_be_lost(with_server) -> None:
    async def body(server: ExecSessionServer, agent: ScriptedAgent) -> None:
        path = await server.open(request())
        reader, writer = await asyncio.open_unix_connection(path)
        for frame in (
            Frame(FrameType.STDIN, b"x"),
            Frame(FrameType.STDIN, b"y"),
            Frame(FrameType.STDIN_END),
            Frame(FrameType.SIGNAL, b"INT"),
        ):
            writer.write(frames.encode(frame))
        note, _, end = await everything(reader)
        assert note.type is FrameType.STDERR
        assert b"no input" in note.payload
        assert frames.exit_code_of(end) == 130
        assert agent.signals == ["INT"]
        writer.close()

    with_server(body)


def test_a_command_whose_client_left_is_killed(with_server) -> None:
    async def body(server: ExecSessionServer, agent: ScriptedAgent) -> None:
        path = await server.open(request())
        _, writer = await asyncio.open_unix_connection(path)
        await until(lambda: bool(agent.commands))
        writer.close()
        await agent.let_go.wait()
        assert agent.signals == ["KILL"]

    with_server(body)


def test_cut_output_is_said(with_server, monkeypatch) -> None:
    monkeypatch.setattr(agent_session, "OUTPUT_LIMIT_BYTES", 6)

    async def body(server: ExecSessionServer, agent: ScriptedAgent) -> None:
        agent.let_go.set()
        reader, writer = await asyncio.open_unix_connection(await server.open(request()))
        _, note, _ = await everything(reader)
        assert note == Frame(FrameType.STDERR, b"vmorch: the output was cut after 6 bytes\n")
        writer.close()

    with_server(body)


def test_nonsense_from_the_client_is_answered_with_an_error(with_server) -> None:
    async def body(server: ExecSessionServer, agent: ScriptedAgent) -> None:
        reader, writer = await asyncio.open_unix_connection(await server.open(request()))
        writer.write(b"GET / HTTP/1.1\r\n")
        (error, *_) = await everything(reader)
        assert error.type is FrameType.ERROR
        assert b"malformed frame" in error.payload
        writer.close()

    with_server(body)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tty": True}, "no terminal"),
        ({"argv": None}, "no terminal"),
        ({"has_agent": False}, "neither SSH nor"),
    ],
)
def test_no_way_in_is_an_error_with_a_hint(with_server, changes, words: str) -> None:
    async def body(server: ExecSessionServer, agent: ScriptedAgent) -> None:
        with pytest.raises(GuestError, match=words) as caught:
            await server.open(request(**changes))
        assert caught.value.hint

    with_server(body)


def test_nobody_listening_for_ssh_is_an_error(with_server, monkeypatch) -> None:
    async def body(server: ExecSessionServer, agent: ScriptedAgent) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            monkeypatch.setattr(server, "_ssh_port", probe.getsockname()[1])
        with pytest.raises(GuestError, match=r"SSH to 127\.0\.0\.1 failed") as caught:
            await server.open(request(has_ssh=True))
        assert caught.value.retryable

    with_server(body)


def test_a_socket_that_nobody_takes_goes_away(with_server, monkeypatch) -> None:
    monkeypatch.setattr(sessions, "_COME_SECONDS", 0.05)

    async def body(server: ExecSessionServer, agent: ScriptedAgent) -> None:
        path = await server.open(request())
        await until(lambda: not path.exists())
        assert agent.commands == []

    with_server(body)


def test_only_one_client_is_let_in(with_server) -> None:
    async def body(server: ExecSessionServer, agent: ScriptedAgent) -> None:
        path = await server.open(request())
        _, writer = await asyncio.open_unix_connection(path)
        await until(lambda: not path.exists())
        with pytest.raises(OSError):
            await asyncio.open_unix_connection(path)
        agent.let_go.set()
        writer.close()

    with_server(body)


def test_sockets_of_a_killed_daemon_are_removed_and_those_in_use_stay(
    with_server, tmp_path: Path
) -> None:
    async def body(server: ExecSessionServer, agent: ScriptedAgent) -> None:
        first = await server.open(request())
        (tmp_path / "x/stale").touch()
        second = await server.open(request())
        assert sorted((tmp_path / "x").iterdir()) == sorted([first, second])

    with_server(body)


def test_closing_the_server_ends_its_sessions(with_server) -> None:
    async def body(server: ExecSessionServer, agent: ScriptedAgent) -> None:
        waiting = await server.open(request())
        reader, writer = await asyncio.open_unix_connection(await server.open(request()))
        await until(lambda: bool(agent.commands))
        await server.close()
        assert await reader.read() == b""
        assert not waiting.exists()
        writer.close()

    with_server(body)
