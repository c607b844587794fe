"""The daemon's root tasks: none of them ends unseen."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from vmorch.daemon import run_roots


class FakeServer:
    """Serves until it is asked to end, as uvicorn does."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self.served = False

    async def serve(self, sockets: list[socket.socket]) -> None:
        await self._asked.wait()
        self.served = True

    def _ask(self, end: bool) -> None:
        if end:
            self._asked.set()

    should_exit = property(fset=_ask)


async def for_ever(ended: list[str], name: str) -> None:
    with contextlib.ExitStack() as stack:
        stack.callback(ended.append, name)
        await asyncio.Event().wait()


async def broken() -> None:
    raise ValueError("a mistake of ours")


def run(server: Any, roots: dict[str, Any]) -> None:
    with socket.socket() as listener:
        asyncio.run(run_roots(server, listener, roots))


def test_a_root_task_that_breaks_takes_the_others_along_and_says_why() -> None:
    server, ended = FakeServer(), []
    with pytest.raises(ValueError, match="a mistake of ours"):
        run(server, {"reconciler": for_ever(ended, "reconciler"), "backups": broken()})
    assert server.served
    assert ended == ["reconciler"]


def test_a_server_that_was_asked_to_end_ends_the_daemon_in_peace() -> None:
    ended: list[str] = []
    server = FakeServer()
    server.should_exit = True
    run(server, {name: for_ever(ended, name) for name in ("one", "other")})
    assert sorted(ended) == ["one", "other"]
