"""HTTP and TCP against servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from vmorch.health.judge import Outcome
from vmorch.health.probes import ask_port
from vmorch.model.spec import HealthCheck, HealthKind

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def asked(target, handler: Handler, kind: HealthKind, path: str = "/") -> Outcome:
    async def body() -> Outcome:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await handler(reader, writer)
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            check = HealthCheck(kind=kind, argument=(path,))
            where = target(check, address="127.0.0.1", port=port)
            return await ask_port(asyncio.open_connection, where)

    return asyncio.run(body())


def answering(answer: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    return handle


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\nbody", Outcome(True, "HTTP 200 OK")),
        (b"HTTP/1.1 204\r\n\r\n", Outcome(True, "HTTP 204")),
        (b"HTTP/1.1 302 Found\r\n\r\n", Outcome(True, "HTTP 302 Found")),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", Outcome(False, "HTTP 404 Not Found")),
        (b"HTTP/1.1 503 Busy\r\n\r\n" + b"x" * 10**6, Outcome(False, "HTTP 503 Busy")),
        (b"SSH-2.0-OpenSSH\r\n", Outcome(False, "the answer is not HTTP: 'SSH-2.0-OpenSSH'")),
        (b"HTTP/1.1 2x0\r\n", Outcome(False, "the answer is not HTTP: 'HTTP/1.1 2x0'")),
        (b"", Outcome(False, "the connection was closed without an answer")),
    ],
)
def test_http(target, answer: bytes, outcome: Outcome) -> None:
    assert asked(target, answering(answer), HealthKind.HTTP) == outcome


def test_an_endless_status_line_is_bounded(target) -> None:
    outcome = asked(target, answering(b"x" * 10**6), HealthKind.HTTP)
    assert not outcome.ok
    assert len(outcome.message) < 300


def test_a_path_cannot_add_lines_to_the_request(target) -> None:
    seen = b""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    path = "a b?x=1&y=%20\r\nEvil: 1"
    assert asked(target, handle, HealthKind.HTTP, path).ok
    assert seen.split(b"\r\n")[0] == b"GET /a%20b?x=1&y=%20%0D%0AEvil:%201 HTTP/1.1"
    assert b"\r\nEvil" not in seen


def test_tcp(target) -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...

    assert asked(target, nothing, HealthKind.TCP).ok


def test_a_closed_port(target) -> None:
    check = HealthCheck(kind=HealthKind.TCP)
    where = target(check, address="127.0.0.1", port=1)
    outcome = asyncio.run(ask_port(asyncio.open_connection, where))
    assert outcome == Outcome(False, "port 1: connection refused")
