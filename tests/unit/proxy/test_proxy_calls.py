"""What is said on the socket on which HAProxy calls the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

from vmorch.proxy.calls import calls


async def listened(socket: Path) -> None:
    for _ in range(1000):
        with contextlib.suppress(OSError):
            mode = socket.stat().st_mode
            if stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600:
                return
        await asyncio.sleep(0)
    raise AssertionError("nobody listens")


@contextlib.asynccontextmanager
async def listening(socket: Path) -> AsyncIterator[asyncio.Queue[str]]:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def listen() -> None:
        async for name in calls(socket, "nobody-of-that-name"):
            heard.put_nowait(name)

    task = asyncio.create_task(listen())
    await listened(socket)
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def say(socket: Path, text: bytes) -> None:
    _, writer = await asyncio.open_unix_connection(socket)
    writer.write(text)
    writer.write_eof()
    writer.close()
    await writer.wait_closed()


def test_each_line_is_a_backend_and_what_is_no_line_is_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        socket = tmp_path / "r" / "calls.sock"
        async with listening(socket) as heard:
            for text in (b"", b"cut off", b"x" * 100_000, b"shop.web.80.http\n"):
                await say(socket, text)
            assert await heard.get() == "shop.web.80.http"
            assert heard.empty()

    asyncio.run(body())


def test_a_new_listener_takes_the_place_of_one_that_died(tmp_path: Path) -> None:
    async def body() -> None:
        socket = tmp_path / "calls.sock"
        socket.touch()
        async with listening(socket) as heard:
            await say(socket, b"shop.web.80.tcp\n")
            assert await heard.get() == "shop.web.80.tcp"

    asyncio.run(body())


def test_passers_through_may_reach_it_and_others_may_not_write(tmp_path: Path) -> None:
    async def body() -> None:
        socket = tmp_path / "r" / "calls.sock"
        async with listening(socket):
            assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o711
            assert stat.S_IMODE(socket.stat().st_mode) == 0o600

    asyncio.run(body())
