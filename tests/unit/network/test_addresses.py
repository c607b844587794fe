"""Addresses and their allocation."""

from __future__ import annotations

from ipaddress import IPv4Network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmorch.errors import Refused
from vmorch.model import addresses
from vmorch.model.addresses import allocate_network
from vmorch.model.instance import EnvironmentNetwork

POOL = "10.213.0.0/16"
INNER = "10.212.0.0/24"


def allocate(
    *, used: set[int] | None = None, taken: tuple[str, ...] = (), inner: str = INNER
) -> EnvironmentNetwork:
    return allocate_network(
        "shop",
        used_indices=used or set(),
        taken=taken,
        outer_pool=POOL,
        inner=inner,
        internal=False,
    )


def test_the_first_network_takes_the_first_ranges() -> None:
    network = allocate()
    assert (network.index, network.outer, network.link) == (0, "10.213.0.0/24", "10.213.254.0/31")
    assert network.inner == INNER


def test_all_254_networks_are_disjoint() -> None:
    used: set[int] = set()
    ranges: list[IPv4Network] = []
    for _ in range(addresses.INDEX_COUNT):
        network = allocate(used=used)
        used.add(network.index)
        ranges += [IPv4Network(network.outer), IPv4Network(network.link)]
    assert used == set(range(254))
    ordered = sorted(ranges)
    assert not any(a.overlaps(b) for a, b in pairwise(ordered))
    with pytest.raises(Refused, match="No network is free"):
        allocate(used=used)


def test_a_subnet_of_the_host_is_avoided() -> None:
    assert allocate(taken=("10.213.0.0/23", "192.168.1.0/24")).index == 2


def test_a_host_route_inside_a_link_is_avoided() -> None:
    assert allocate(taken=("10.213.254.1/32",)).index == 1


def test_a_taken_pool_is_refused_with_what_to_change() -> None:
    with pytest.raises(Refused) as caught:
        allocate(taken=("10.0.0.0/8",))
    assert "outer_pool" in caught.value.hint


@pytest.mark.parametrize("inner", ["10.212.0.0/16", "10.212.0.1/24", "x", "10.213.7.0/24"])
def test_an_unfit_inner_subnet_is_refused(inner: str) -> None:
    with pytest.raises(Refused):
        allocate(inner=inner)


def test_roles_of_inner_addresses() -> None:
    network = allocate()
    assert addresses.gateway(network) == "10.212.0.1"
    assert addresses.service_address(network, 0) == "10.212.0.2"
    assert addresses.service_address(network, 61) == "10.212.0.63"
    for position in (-1, 62):
        with pytest.raises(Refused):
            addresses.service_address(network, position)
    numbers = addresses.instance_host_numbers()
    assert (numbers[0], numbers[-1]) == (64, 254)
    assert addresses.prefix_length(network) == 24


def test_inner_and_outer_addresses_correspond() -> None:
    network = allocate(used={0, 1, 2})
    assert addresses.inner_address(network, 77) == "10.212.0.77"
    assert addresses.outer_address(network, 77) == "10.213.3.77"
    assert addresses.link_addresses(network) == ("10.213.254.6", "10.213.254.7")


@given(st.integers(0, 253), st.integers(64, 254), st.text("0123456789abcdef", min_size=32))
def test_macs_are_local_unicast_and_end_in_index_and_host(
    index: int, host: int, installation: str
) -> None:
    octets = [int(part, 16) for part in addresses.mac_address(installation, index, host).split(":")]
    assert len(octets) == 6
    assert octets[0] & 0b11 == 0b10
    assert octets[4:] == [index, host]


def test_macs_of_two_installations_differ() -> None:
    assert addresses.mac_address("a" * 32, 0, 64) != addresses.mac_address("b" * 32, 0, 64)


def test_search_domain_is_a_host_name() -> None:
    assert addresses.search_domain("my_shop") == "my-shop.internal"
