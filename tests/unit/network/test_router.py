"""What `RouterNetwork` does in which order and where, with every effect of its parts recorded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vmorch.effects import NoFaults, SystemClock
from vmorch.model.addresses import allocate_network
from vmorch.model.names import Installation
from vmorch.network import dnsmasq, host, links, router
from vmorch.network.router import RouterNetwork

NETWORK = allocate_network(
    "shop",
    used_indices=(),
    taken=(),
    outer_pool="10.213.0.0/16",
    inner="10.212.0.0/24",
    internal=False,
)
LISTING = "nft list table inet vmorch_0a1b2c"


class Recorded:
    """`calls` are the effects in their order, `in_loop` those that held up the event loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.in_loop: list[str] = []
        self._patch = monkeypatch
        self._loop = threading.current_thread()
        self._stand_in(host, "run", lambda words, **_: " ".join(words), name=" ".join)
        self._stand_in(host, "nft", lambda *_, **__: None, name=lambda _: "nft for the host")
        self._stand_in(router, "nft", lambda *_, **__: None, name=lambda _: "nft for a router")
        for step in ("ensure_namespace", "ensure_links", "bring_up", "remove"):
            self._stand_in(links, step, lambda *_: None)
        self._stand_in(links, "indices", lambda *_: set())
        self._stand_in(router, "usable_servers", lambda *_: ("192.0.2.1",))
        self._stand_in(dnsmasq, "running", lambda *_: [])
        self._stand_in(dnsmasq, "start", lambda *_: 1)
        self._stand_in(dnsmasq, "runs", lambda *_: True)
        self._stand_in(dnsmasq, "reload", lambda *_: None)
        self._stand_in(dnsmasq, "write_file", dnsmasq.write_file)
        self._stand_in(dnsmasq, "write_files", dnsmasq.write_files)

    def _stand_in(
        self,
        module: Any,
        function: str,
        answer: Callable[..., Any],
        *,
        name: Callable[[Any], str] | None = None,
    ) -> None:
        def recorded(*arguments: Any, **named: Any) -> Any:
            call = name(arguments[0]) if name else function
            self.calls.append(call)
            if threading.current_thread() is self._loop:
                self.in_loop.append(call)
            return answer(*arguments, **named)

        self._patch.setattr(module, function, recorded)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    monkeypatch.setattr(links, "fingerprint", lambda names: ("as it was",))
    return Recorded(monkeypatch)


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RouterNetwork:
    forwarding = tmp_path / "ip_forward"
    forwarding.write_text("1")
    monkeypatch.setattr(host, "_FORWARDING", forwarding)
    return RouterNetwork(
        Installation("0a1b2c" + "0" * 26),
        tmp_path / "run",
        outer_pool="10.213.0.0/16",
        clock=SystemClock(),
        faults=NoFaults(),
    )


def test_nothing_holds_up_the_event_loop(recorded: Recorded, network: RouterNetwork) -> None:
    async def life() -> None:
        for names in ({}, {"db": ["10.212.0.2"]}):
            await network.ensure_host()
            await network.ensure(NETWORK, ["10.212.0.2"])
            await network.set_names(NETWORK, names)
        await network.remove(NETWORK.index)

    asyncio.run(life())
    assert {"reload", "start", "running", "usable_servers", "remove"} <= set(recorded.calls)
    assert recorded.in_loop == []


def test_the_hosts_rules_are_listed_once_for_all_environments(
    recorded: Recorded, network: RouterNetwork
) -> None:
    async def cycle() -> None:
        await network.ensure_host()
        await network.ensure(NETWORK, [])
        await network.ensure(NETWORK, [])

    asyncio.run(cycle())
    recorded.calls.clear()
    asyncio.run(cycle())
    assert recorded.calls.count(LISTING) == 1
    assert "nft for the host" not in recorded.calls


def test_rules_that_went_with_the_last_environment_come_back_before_the_next(
    recorded: Recorded, network: RouterNetwork
) -> None:
    async def story() -> None:
        await network.ensure_host()
        await network.remove(NETWORK.index)
        recorded.calls.clear()
        await network.ensure(NETWORK, [])

    asyncio.run(story())
    first = recorded.calls.index("nft for the host")
    assert first < recorded.calls.index("ensure_links")
