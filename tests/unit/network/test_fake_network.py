"""The network in memory keeps the protocol's promises."""

from __future__ import annotations

import asyncio

import pytest

from vmorch.errors import NetworkError
from vmorch.model.addresses import allocate_network
from vmorch.network.fake import FakeNetwork
from vmorch.network.protocol import Network
from vmorch.network.router import RouterNetwork

NETWORK = allocate_network(
    "shop",
    used_indices=(),
    taken=(),
    outer_pool="10.213.0.0/16",
    inner="10.212.0.0/24",
    internal=False,
)


def as_network(network: FakeNetwork | RouterNetwork) -> Network:
    """mypy holds both against the protocol here."""
    return network


def test_what_is_made_is_present_until_it_is_removed() -> None:
    async def scenario() -> None:
        fake = FakeNetwork()
        network = as_network(fake)
        await network.ensure(NETWORK, ["10.212.0.2"])
        await network.set_names(NETWORK, {"db": ["10.212.0.2"]})
        assert await network.present() == [0]
        assert fake.ensured[0] == (NETWORK, ("10.212.0.2",))
        fake.lose(0)
        assert await network.present() == [0]
        await network.remove(0)
        await network.remove(0)
        assert await network.present() == []

    asyncio.run(scenario())


def test_an_ordered_failure_comes_once_and_leaves_half_a_network() -> None:
    async def scenario() -> None:
        fake = FakeNetwork(failures={"ensure": [NetworkError("no")]})
        with pytest.raises(NetworkError):
            await fake.ensure(NETWORK, [])
        assert await fake.present() == [0]
        assert not fake.ensured
        await fake.ensure(NETWORK, [])
        assert fake.ensured
        assert not fake.half_made

    asyncio.run(scenario())
