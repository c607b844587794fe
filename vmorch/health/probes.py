"""The single questions: HTTP, TCP, a command in the guest. Each answers with an Outcome and
raises nothing of the network's; how long it may take is the caller's to bound."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol
from urllib.parse import quote

from vmorch.errors import VmorchError
from vmorch.health.judge import Outcome
from vmorch.health.protocol import Target
from vmorch.model.guest import GuestReport
from vmorch.model.spec import HealthKind

# Opens a TCP connection to (host, port); raises OSError.
Connect = Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

_BODY_BYTES = 64 * 1024
_MESSAGE_LETTERS = 200
# What may stand in a request line's target as it is; all else is escaped, line ends first of all.
_TARGET_SAFE = "/%?&=#:@!$'()*+,;~-._"


class Insides(Protocol):
    """The ways into a guest. Both raise VmorchError: its own, or of what is between."""

    async def report(self, domain: str, timeout_seconds: float) -> GuestReport: ...

    async def run_as_service(
        self, domain: str, argv: Sequence[str], timeout_seconds: float
    ) -> tuple[int, bytes]: ...


async def ask_port(connect: Connect, target: Target) -> Outcome:
    """HTTP or TCP, as the target's check says."""
    port = target.port
    if port is None:
        return Outcome(False, "the check has no port: give the service one with 'expose'")
    try:
        async with _connection(connect, target.address, port) as (reader, writer):
            if target.check.kind is HealthKind.TCP:
                return Outcome(True, f"port {port} is open")
            path = (target.check.argument or ("/",))[0]
            writer.write(_request(f"{target.address}:{port}", path))
            await writer.drain()
            outcome = _judged(await reader.readline())
            # Read on: a server that is cut off in its answer writes an error into its log.
            await reader.read(_BODY_BYTES)
            return outcome
    except (OSError, ValueError) as error:
        return Outcome(False, f"port {port}: {_words(error)}")


async def ask_command(insides: Insides, target: Target, timeout_seconds: float) -> Outcome:
    """CMD and CMD-SHELL: exit code 0 is well, as in Docker."""
    argument = target.check.argument
    argv = argument if target.check.kind is HealthKind.CMD else ("/bin/sh", "-c", *argument)
    try:
        code, output = await insides.run_as_service(target.domain, argv, timeout_seconds)
    except VmorchError as error:
        return Outcome(False, error.message)
    words = _last_line(output)
    if code == 0:
        return Outcome(True, words or "the check's command succeeded")
    return Outcome(
        False, f"the check's command ended with {code}" + (f": {words}" if words else "")
    )


@contextlib.asynccontextmanager
async def _connection(
    connect: Connect, address: str, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await connect(address, port)
    try:
        yield reader, writer
    finally:
        writer.close()


def _request(host: str, path: str) -> bytes:
    target = quote(path if path.startswith("/") else f"/{path}", safe=_TARGET_SAFE)
    lines = (
        f"GET {target} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: vmorch-health",
        "Accept: */*",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def _judged(status_line: bytes) -> Outcome:
    """2xx and 3xx are well, as for HAProxy and load balancers elsewhere."""
    if not status_line:
        return Outcome(False, "the connection was closed without an answer")
    text = status_line.decode("latin-1").strip()
    version, _, rest = text.partition(" ")
    code = rest[:3]
    if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit()):
        return Outcome(False, f"the answer is not HTTP: {text[:60]!r}")
    return Outcome(code[0] in "23", f"HTTP {rest}"[:_MESSAGE_LETTERS])


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return (str(error) or type(error).__name__)[:_MESSAGE_LETTERS]


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return "".join(filter(str.isprintable, lines[-1] if lines else ""))[:_MESSAGE_LETTERS]
