"""The daemon's root tasks: none of them ends unseen; and what it takes along at its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from vmorch.daemon import (
    certificates_check,
    end_anonymous,
    listening_for_metrics,
    metrics_server,
    run_roots,
)
from vmorch.effects import SystemClock
from vmorch.errors import Refused
from vmorch.hypervisor.fake import FakeHypervisor
from vmorch.hypervisor.protocol import GuestState, ObservedGuest
from vmorch.metrics.history import History
from vmorch.model.names import Installation
from vmorch.proxy.certificates import Certificates
from vmorch.proxy.place import Place


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


def test_the_doctor_tells_of_certificates(tmp_path: Path) -> None:
    place = Place(config_dir=tmp_path, run_dir=tmp_path)
    certificates = Certificates(place, SystemClock())
    assert certificates_check(certificates).ok
    given = place.tls_dir / "given/shop.pem"
    given.parent.mkdir(parents=True)
    given.write_text("nothing")
    check = certificates_check(certificates)
    assert not check.ok
    assert "given/shop.pem is left out" in check.message


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


def test_metrics_on_an_address_that_is_taken_are_refused_by_name() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Refused, match=text), listening_for_metrics(text):
            pass


def test_metrics_are_answered_beside_and_leave_the_signals_to_the_api() -> None:
    async def story() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            server = metrics_server(History())
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            reader, writer = await asyncio.open_connection(*await answering(server, listener))
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"vmorch_samples_total 0.0" in await reader.read()
            writer.close()
            assert signal.getsignal(signal.SIGTERM) is before
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(story())


async def answering(server: uvicorn.Server, listener: socket.socket) -> tuple[str, int]:
    """Where it listens, once it does."""
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0)
    address, port = listener.getsockname()
    return address, port
