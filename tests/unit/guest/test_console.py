"""A serial console through a session's socket."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from vmorch.effects import SystemClock, SystemEntropy
from vmorch.errors import HypervisorError, Refused
from vmorch.guest.sessions import ExecSessionServer
from vmorch.model.frames import Decoder, Frame, FrameType, encode, exit_


class Serial:
    """A terminal of which the test is the guest's side."""

    def __init__(self) -> None:
        self.guest, self.ours = os.openpty()
        os.set_blocking(self.guest, False)
        tty.setraw(self.ours)  # as QEMU does it

    async def __call__(self, domain: str) -> int:
        if domain == "gone":
            raise HypervisorError("There is no guest gone.")
        return os.open(os.ttyname(self.ours), os.O_RDWR | os.O_NOCTTY)

    async def typed(self) -> bytes:
        while True:
            try:
                return os.read(self.guest, 1000)
            except BlockingIOError:
                await asyncio.sleep(0.005)


def with_server(
    directory: Path, body: Callable[[ExecSessionServer, Serial], Awaitable[None]]
) -> None:
    async def never(*_: object) -> str:
        raise AssertionError

    async def whole() -> None:
        serial = Serial()
        server = ExecSessionServer(
            exec_dir=directory / "x",
            client_key=directory / "key",
            host_key_for=never,
            agent=never,
            console=serial,
            clock=SystemClock(),
            entropy=SystemEntropy(),
        )
        async with asyncio.timeout(20):
            await body(server, serial)
        await server.close()

    asyncio.run(whole())


async def shown(reader: asyncio.StreamReader, wanted: bytes) -> None:
    got, decoder = b"", Decoder()
    while wanted not in got:
        got += b"".join(f.payload for f in decoder.feed(await reader.read(1000)))


def test_bytes_go_both_ways_until_the_guest_ends(tmp_path: Path) -> None:
    async def body(server: ExecSessionServer, serial: Serial) -> None:
        reader, writer = await asyncio.open_unix_connection(await server.open_console("d"))
        os.write(serial.guest, b"login: ")
        await shown(reader, b"login: ")
        writer.write(encode(Frame(FrameType.STDIN, b"root\n")))
        assert b"root" in await serial.typed()
        os.close(serial.ours)
        os.close(serial.guest)
        assert (await reader.read()).endswith(encode(exit_(0)))

    with_server(tmp_path, body)


def test_one_session_at_a_time_has_it_and_the_next_one_after_that(tmp_path: Path) -> None:
    async def body(server: ExecSessionServer, serial: Serial) -> None:
        reader, writer = await asyncio.open_unix_connection(await server.open_console("d"))
        with pytest.raises(Refused, match="another session"):
            await server.open_console("d")
        writer.close()
        await reader.read()
        for _ in range(500):
            try:
                await server.open_console("d")
                return
            except Refused:
                await asyncio.sleep(0.01)
        raise AssertionError("the console was not given back")

    with_server(tmp_path, body)


def test_a_guest_that_is_gone_can_be_asked_for_again(tmp_path: Path) -> None:
    async def body(server: ExecSessionServer, serial: Serial) -> None:
        for _ in range(2):
            with pytest.raises(HypervisorError):
                await server.open_console("gone")

    with_server(tmp_path, body)


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    async def body(server: ExecSessionServer, serial: Serial) -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(5):
            reader, writer = await asyncio.open_unix_connection(await server.open_console("d"))
            writer.close()
            await reader.read()
            await asyncio.gather(*server._sessions.values())
        assert len(list(Path("/proc/self/fd").iterdir())) <= before

    with_server(tmp_path, body)
