"""The daemon's root tasks: none of them ends unseen; and what it takes along at its end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from vmorch.daemon import end_anonymous, run_roots
from vmorch.effects import SystemClock
from vmorch.hypervisor.fake import FakeHypervisor
from vmorch.hypervisor.protocol import GuestState, ObservedGuest
from vmorch.model.names import Installation


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


def test_a_daemon_that_ends_in_peace_takes_anonymous_guests_along_and_no_instance() -> None:
    installation = Installation("5e" * 16)
    names = {installation.warm_domain("ab" * 32), installation.domain("shop", "web", 1)}
    hypervisor = FakeHypervisor(SystemClock())
    hypervisor.foreign = [
        ObservedGuest(name=name, uuid=name, identity=None, state=GuestState.RUNNING)
        for name in names
    ]
    ended: list[str] = []

    async def destroy(name: str) -> None:
        ended.append(name)

    hypervisor.destroy = destroy  # type: ignore[method-assign]
    asyncio.run(end_anonymous(hypervisor, installation))
    assert ended == [installation.warm_domain("ab" * 32)]


def test_a_server_that_was_asked_to_end_ends_the_daemon_in_peace() -> None:
    ended: list[str] = []
    server = FakeServer()
    server.should_exit = True
    run(server, {name: for_ever(ended, name) for name in ("one", "other")})
    assert sorted(ended) == ["one", "other"]
