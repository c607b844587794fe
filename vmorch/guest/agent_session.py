"""One command in a guest without SSH, by its agent: no input, and the output after the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from vmorch.errors import UsageError, VmorchError
from vmorch.guest import commands
from vmorch.guest.agent import OUTPUT_LIMIT_BYTES, Agent
from vmorch.guest.frame_socket import FrameSocket
from vmorch.guest.threads import in_thread
from vmorch.model import frames
from vmorch.model.frames import Frame, FrameType

# Nobody waits longer than this for a command without output; the guest ends it then.
LIMIT_SECONDS = 3600.0


class AgentSession:
    """Runs `argv` in `domain` for `client`."""

    def __init__(
        self, client: FrameSocket, agent: Agent, *, domain: str, token: str, argv: list[str]
    ) -> None:
        self._client = client
        self._agent = agent
        self._domain = domain
        self._token = token
        self._argv = argv
        self._warned = False

    async def run(self) -> None:
        """Until the command or the client ended; the client has its EXIT or ERROR then."""
        loop = asyncio.get_running_loop()
        command = asyncio.create_task(self._command())
        reading = asyncio.create_task(in_thread(lambda: self._read_client(loop)))
        try:
            await asyncio.wait({command, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not command.done():
                await self._send_signal("KILL")
        finally:
            command.cancel()
            self._client.end()
            await asyncio.gather(command, reading, return_exceptions=True)
            self._client.close()

    async def _command(self) -> None:
        try:
            code, output = await self._agent.run(self._domain, self._argv, LIMIT_SECONDS)
        except VmorchError as error:
            await asyncio.to_thread(self._client.send_error, error)
            return
        ending = [Frame(FrameType.STDOUT, output)] if output else []
        if len(output) >= OUTPUT_LIMIT_BYTES:
            ending.append(_note(f"the output was cut after {OUTPUT_LIMIT_BYTES} bytes"))
        for frame in (*ending, frames.exit_(code)):
            await asyncio.to_thread(self._client.send, frame)

    def _read_client(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            for frame in self._client.receive():
                self._take(frame, loop)
        except UsageError as error:
            self._client.send_error(error)

    def _take(self, frame: Frame, loop: asyncio.AbstractEventLoop) -> None:
        if frame.type is FrameType.SIGNAL:
            name = frame.payload.decode("ascii", "replace")
            _wait(loop, self._send_signal(name))
        elif frame.type is FrameType.STDIN and not self._warned:
            self._warned = True
            self._client.send(_note("the image has no SSH, so the command gets no input"))

    async def _send_signal(self, name: str) -> None:
        argv = commands.signal(self._token, name)
        with contextlib.suppress(VmorchError):
            await self._agent.execute(self._domain, argv, commands.SIGNAL_SECONDS)


def _note(text: str) -> Frame:
    return Frame(FrameType.STDERR, f"vmorch: {text}\n".encode())


def _wait(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    asyncio.run_coroutine_threadsafe(work, loop).result()
