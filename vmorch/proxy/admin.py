"""Asks HAProxy's command lines: the worker's admin socket and the master's socket.

The master's command line ends at the end of input, so both are asked with the writing half closed.
No knowledge of what is asked lives here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from vmorch.errors import ProxyError

COMMAND_TIMEOUT_SECONDS = 10.0
# What an interactive command line ends each answer with. Where several commands go in one line
# instead, some answers end in an empty line and some do not: nothing tells them apart.
_PROMPT = "\n> "


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

    async def told(self, command: str) -> str:
        """As `ask`, of a command that is always answered.

        Raises:
            Unreachable, ProxyError: as `ask`; also when a reload cut the connection before the
                first word.
        """
        if text := await self.ask(command):
            return text
        raise Unreachable(f"HAProxy left {self._socket} without an answer.", retryable=True)

    async def ask_each(self, commands: Sequence[str]) -> list[str]:
        """The answers to several lines, sent at once: a busy HAProxy turns to its command line once
        for all of them.

        Raises:
            Unreachable, ProxyError: as `ask`; the first lines may have been followed.
        """
        text = await self.ask("\n".join(["prompt", *commands]))
        answers = [answer.strip() for answer in text.split(_PROMPT)][1:-1]
        if len(answers) != len(commands):
            raise Unreachable(
                f"HAProxy left {self._socket} after {len(answers)} of {len(commands)} answers.",
                retryable=True,
            )
        return answers

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
