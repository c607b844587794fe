"""Which addresses belong to whom. Pure: the store calls it to allocate, the network to apply.

The outer pool is a /16. Its first 254 /24s are the outer ranges of the environments with the
network indices 0 to 253; its last /23 holds as many /31s, the links between host and routers,
so that no link ever shadows a part of an outer range. In an inner /24, .1 is the gateway, .2 to
.63 are service addresses, .64 to .254 instances.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Network

from vmorch.errors import Refused
from vmorch.model.instance import EnvironmentNetwork

INDEX_COUNT = 254
GATEWAY_HOST = 1
FIRST_SERVICE_HOST = 2
SERVICE_COUNT = 62
FIRST_INSTANCE_HOST = 64
LAST_INSTANCE_HOST = 254
_PREFIX = 24


def allocate_network(
    environment: str,
    *,
    used_indices: Collection[int],
    taken: Sequence[str],
    outer_pool: str,
    inner: str,
    internal: bool,
) -> EnvironmentNetwork:
    """The lowest free index whose outer range and link overlap nothing in `taken`.

    Raises:
        Refused: no index is free, or `inner` is no /24 or lies in the outer pool.
    """
    pool = IPv4Network(outer_pool)
    inner_network = _checked_inner(inner, pool)
    avoid = [network for network in map(IPv4Network, taken) if network.overlaps(pool)]
    for index in range(INDEX_COUNT):
        outer, link = _outer_range(pool, index), _link(pool, index)
        if index in used_indices or any(n.overlaps(outer) or n.overlaps(link) for n in avoid):
            continue
        return EnvironmentNetwork(
            environment=environment,
            index=index,
            inner=str(inner_network),
            outer=str(outer),
            link=str(link),
            internal=internal,
        )
    raise Refused(
        f"No network is free for '{environment}': every range of {outer_pool} is used by an "
        "environment or by the host itself.",
        hint="Remove an environment, or set 'outer_pool' to a /16 the host has no routes for.",
    )


def _checked_inner(inner: str, pool: IPv4Network) -> IPv4Network:
    try:
        network = IPv4Network(inner)
    except ValueError as error:
        raise Refused(f"The subnet {inner!r} is no IPv4 network: {error}.") from error
    if network.prefixlen != _PREFIX:
        raise Refused(f"The subnet {inner} must be a /{_PREFIX}.")
    if network.overlaps(pool):
        raise Refused(
            f"The subnet {inner} lies in {pool}, from which the host reaches environments.",
            hint="Choose another subnet, or another 'outer_pool' in the settings.",
        )
    return network


def outer_range(outer_pool: str, index: int) -> str:
    """The range in which the host reaches the environment with this network index."""
    return str(_outer_range(IPv4Network(outer_pool), index))


def link_range(outer_pool: str, index: int) -> str:
    """The /31 between the host and that environment's router."""
    return str(_link(IPv4Network(outer_pool), index))


def _outer_range(pool: IPv4Network, index: int) -> IPv4Network:
    return IPv4Network((int(pool.network_address) + index * 256, _PREFIX))


def _link(pool: IPv4Network, index: int) -> IPv4Network:
    return IPv4Network((int(pool.network_address) + INDEX_COUNT * 256 + index * 2, 31))


def gateway(network: EnvironmentNetwork) -> str:
    """The router's inner address: the guests' gateway and name server, and what they see as
    the source of the host's connections."""
    return inner_address(network, GATEWAY_HOST)


def prefix_length(network: EnvironmentNetwork) -> int:
    return IPv4Network(network.inner).prefixlen


def service_address(network: EnvironmentNetwork, position: int) -> str:
    """The stable inner address of the service at `position`, counted from 0.

    Raises:
        Refused: an environment has no more than 62 of them.
    """
    if not 0 <= position < SERVICE_COUNT:
        raise Refused(
            f"'{network.environment}' has more than {SERVICE_COUNT} services.",
            hint="Split it into several environments.",
        )
    return inner_address(network, FIRST_SERVICE_HOST + position)


def instance_host_numbers() -> range:
    """The last bytes that instances' addresses may have."""
    return range(FIRST_INSTANCE_HOST, LAST_INSTANCE_HOST + 1)


def inner_address(network: EnvironmentNetwork, host_number: int) -> str:
    """What guests call the host with this last byte."""
    return str(IPv4Network(network.inner)[host_number])


def outer_address(network: EnvironmentNetwork, host_number: int) -> str:
    """What the host calls the same guest: the router maps one range onto the other."""
    return str(IPv4Network(network.outer)[host_number])


def link_addresses(network: EnvironmentNetwork) -> tuple[str, str]:
    """The host's and the router's end of the link between them (a /31, RFC 3021)."""
    first = IPv4Network(network.link).network_address
    return str(first), str(IPv4Address(int(first) + 1))


def mac_address(installation_id: str, index: int, host_number: int) -> str:
    """Locally administered, the same each time, unique among the installations of one host."""
    digest = hashlib.sha256(installation_id.encode()).digest()
    octets = (0x02, *digest[:3], index, host_number)
    return ":".join(f"{octet:02x}" for octet in octets)


def search_domain(environment: str) -> str:
    """The DNS domain of an environment's names. `.internal` is reserved for private use; an
    underscore is no part of a host name (RFC 952)."""
    return f"{environment.replace('_', '-')}.internal"
