"""Asks HAProxy's command lines: the worker's admin socket and the master's socket.

One connection per command. The master's command line ends at the end of input, so both are
asked with the writing half closed. No knowledge of what is asked lives here.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from vmorch.errors import ProxyError

COMMAND_TIMEOUT_SECONDS = 10.0


class Unreachable(ProxyError):
    """Nobody listens on the socket (now)."""


class CommandLine:
    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def ask(self, command: str) -> str:
        """The answer to one line.

        Raises:
            Unreachable: nobody listens, or the connection was cut by a reload.
            ProxyError: no answer in time.
        """
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_SECONDS):
                return await self._exchange(command)
        except TimeoutError as error:
            raise ProxyError(
                f"HAProxy did not answer on {self._socket} within {COMMAND_TIMEOUT_SECONDS:g} s.",
                hint="It may be overloaded; vmorch will ask again.",
                retryable=True,
            ) from error
        except OSError as error:
            raise Unreachable(
                f"HAProxy cannot be reached on {self._socket}: {error.strerror or error}.",
                retryable=True,
            ) from error

    async def _exchange(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        try:
            writer.write(command.encode() + b"\n")
            writer.write_eof()
            return (await reader.read()).decode(errors="replace")
        finally:
            writer.close()

    async def ask_worker(self, pid: int, command: str) -> str:
        """Ask one worker, also a leaving one, through the master.

        Raises:
            Unreachable, ProxyError: as `ask`.
        """
        return await self.ask(f"@!{pid} {command}")
