"""Where a `ProxyConfig` has HAProxy listen, each endpoint with the name of its frontend. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from vmorch.proxy.place import Place
from vmorch.proxy.protocol import AddressUnavailable, Endpoint, Listener, ProxyConfig, Purpose

ROUTES = "http"
"""The frontend of all routes."""


def listener_name(item: Listener, namespaces: Mapping[str, int]) -> str:
    """The name of its frontend. A namespace stands there with its inode number, so that a worker
    can be asked in which one it listens: another may have been made under the old name."""
    where = f"{item.namespace}.{namespaces.get(item.namespace, 0)}" if item.namespace else "host"
    return f"tcp:{where}:{item.address}:{item.port}"


def read_frontends(text: str) -> set[str]:
    """The names in the answer to `show stat -1 1 -1` (all frontends)."""
    return {line.partition(",")[0] for line in text.splitlines() if ",FRONTEND," in line}


def stale_namespaces(held: Collection[str], namespaces: Mapping[str, int]) -> set[str]:
    """Those that were made anew since frontends of these names began to listen in them."""
    return {
        name
        for name, inode in namespaces.items()
        if any(
            frontend.startswith(f"tcp:{name}.") and not frontend.startswith(f"tcp:{name}.{inode}:")
            for frontend in held
        )
    }


def route_endpoints(config: ProxyConfig, place: Place) -> list[Endpoint]:
    """Where routes are answered, if there are any."""
    ports = {Purpose.HTTP: place.http_port, Purpose.TLS: place.https_port if config.tls else 0}
    return [
        Endpoint(address=place.http_address, port=port, purpose=purpose)
        for purpose, port in ports.items()
        if port and config.routes
    ]


def missing(
    config: ProxyConfig, place: Place, held: Collection[str], namespaces: Mapping[str, int]
) -> list[Endpoint]:
    """What is not listened on by a worker with these frontends, or may not be: the frontend of
    routes does not say at which ports it is."""
    return [
        *route_endpoints(config, place),
        *(i.endpoint for i in config.listeners if listener_name(i, namespaces) not in held),
    ]


def refuse_meeting(config: ProxyConfig, place: Place) -> None:
    """What the store refuses to publish may have been published before the settings changed.

    Raises:
        AddressUnavailable: listeners are where routes are answered.
    """
    own = route_endpoints(config, place)
    found = [
        item.endpoint
        for item in config.listeners
        if item.namespace is None
        and any(item.port == e.port and overlap(item.address, e.address) for e in own)
    ]
    if found:
        raise AddressUnavailable(
            f"HAProxy cannot listen on {', '.join(map(str, found))}, where it answers routes.",
            hint="Publish another port, or change 'http_port' or 'https_port' in the settings.",
            endpoints=tuple(found),
        )


def overlap(one: str, other: str) -> bool:
    """Whether two programs cannot listen on the same port of these addresses. `*` is IPv4 and
    IPv6."""
    if one == other or "*" in (one, other):
        return True
    first, second = _plain(one), _plain(other)
    if first.version != second.version:
        return False
    return first == second or first.is_unspecified or second.is_unspecified


def _plain(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
