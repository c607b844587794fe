"""Hears from HAProxy that somebody waits for a service that has no server (see `holding.py`).

A hint, repeated every second for as long as it is true: nothing is lost with a daemon that is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

_LINE_SECONDS = 1.0
_MOST_WAITING = 1000


async def calls(socket: Path, user: str) -> AsyncIterator[str]:
    """The names of backends, as they are said on `socket`, which only `user` may write to."""
    heard: asyncio.Queue[str] = asyncio.Queue(_MOST_WAITING)

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, ValueError, OSError, asyncio.QueueFull):
            async with asyncio.timeout(_LINE_SECONDS):
                line = await reader.readline()
            if line.endswith(b"\n"):
                heard.put_nowait(line.decode(errors="replace").strip())
        writer.close()

    socket.parent.mkdir(parents=True, exist_ok=True)
    socket.parent.chmod(0o711)  # a HAProxy that an older vmorch started had it closed
    socket.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(hear, socket)
    try:
        # Made anew under its name, it is the socket that HAProxy finds at its next word.
        socket.chmod(0o600)
        with contextlib.suppress(LookupError):  # where HAProxy is not installed nobody calls
            shutil.chown(socket, user=user)
        while True:
            yield await heard.get()
    finally:
        server.close()
        socket.unlink(missing_ok=True)
