"""What only one environment of a host can have: published ports, and host names of routes. And
what only one instance of a service can have: a volume that is not `per_instance`.

Purely computational but for `IsFree`, which asks the host; `vmorch.store.environments` calls it
inside the transaction that writes the answer down, so that no two environments get the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import combinations

from vmorch.errors import Refused
from vmorch.model.spec import EnvironmentSpec, Protocol, PublishedPort, ServiceSpec
from vmorch.store.protocol import EnvironmentRecord

# Whether nobody on the host listens on this port of this address now.
IsFree = Callable[[str, int], bool]

# Where vmorch itself answers on the host: the setting that says so -> address and port.
OwnEndpoints = Mapping[str, tuple[str, int]]

# Below Linux's range for outgoing connections (net.ipv4.ip_local_port_range begins at 32768): a
# number from that range could be in use by a client's connection when HAProxy wants it.
CHOSEN_PORTS = range(30000, 32768)


def always_free(address: str, port: int) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    """A port, where it listens, and whose it is."""

    service: str
    port: PublishedPort
    address: str


def refuse_sharing(service: ServiceSpec, replicas: int) -> None:
    """Raises Refused when so many instances would share a volume."""
    for mount in service.volumes:
        if replicas > 1 and not mount.per_instance:
            raise Refused(
                f"'{service.name}' cannot have {replicas} instances: its volume "
                f"'{mount.source}' is for one at a time.",
                hint="Write 'per_instance: true' at the volume to give each its own.",
            )


def refuse_conflicts(
    spec: EnvironmentSpec,
    others: Sequence[EnvironmentRecord],
    publish_address: str,
    own_endpoints: OwnEndpoints,
) -> None:
    """Raises Refused when two ports of `spec` meet, or when vmorch itself or another environment,
    which it names, has a port or host name of it."""
    mine = _published(spec, publish_address)
    for published in mine:
        _refuse_own(published, own_endpoints)
    for one, other in combinations(mine, 2):
        if _meet(one, other):
            raise _both(one, other, publish_address)
    for record in others:
        for theirs in _published(record.spec, publish_address):
            for own in mine:
                if _meet(own, theirs):
                    raise _port_taken(own, theirs, record)
        _refuse_hosts(spec, record)


def _refuse_own(published: _Published, own_endpoints: OwnEndpoints) -> None:
    if published.port.protocol is not Protocol.TCP:
        return
    for setting, (address, port) in own_endpoints.items():
        if published.port.published == port and _overlap(published.address, address):
            raise Refused(
                f"Port {port} of {published.address}, which '{published.service}' publishes, is "
                f"where vmorch answers routes ('{setting}' in the daemon's settings).",
                hint=f"Publish another, let vmorch choose one (ports: ['{published.port.target}']),"
                f" or change '{setting}'.",
            )


def _refuse_hosts(spec: EnvironmentSpec, record: EnvironmentRecord) -> None:
    hosts = {route.host: name for name, s in record.spec.services.items() for route in s.routes}
    for service, declared in spec.services.items():
        for route in declared.routes:
            if route.host in hosts:
                raise _taken(
                    f"The host name {route.host}, which is routed to '{service}', is routed "
                    f"to '{hosts[route.host]}' of the environment '{record.name}'.",
                    record,
                    "use another, such as one with ${COMPOSE_PROJECT_NAME} in it",
                )


def _both(one: _Published, other: _Published, publish_address: str) -> Refused:
    """What the spec's own checks cannot see, as they do not know the settings."""
    return Refused(
        f"Port {one.port.published} is published by '{one.service}' on {one.address} and by "
        f"'{other.service}' on {other.address}.",
        hint=f"Without an address, that is {publish_address} ('publish_address' in the daemon's "
        "settings). Choose another port, or addresses that differ.",
    )


def _port_taken(own: _Published, theirs: _Published, record: EnvironmentRecord) -> Refused:
    return _taken(
        f"Port {own.port.published} of {own.address}, which '{own.service}' publishes, "
        f"is published by '{theirs.service}' of the environment '{record.name}'.",
        record,
        f"publish another, or let vmorch choose one (ports: ['{own.port.target}'])",
    )


def with_chosen_ports(
    spec: EnvironmentSpec,
    old: EnvironmentSpec | None,
    others: Sequence[EnvironmentRecord],
    *,
    is_free: IsFree,
    publish_address: str,
    own_endpoints: OwnEndpoints,
) -> EnvironmentSpec:
    """`spec` with a number for each published port that has none: the one that it has in `old`,
    else one that nobody has, no environment nor vmorch itself, and that is free on the host.

    Raises:
        Refused: all are taken.
    """
    known = [spec, *(record.spec for record in others)]
    taken = {p.port.published for one in known for p in _published(one, publish_address)} - {None}
    taken |= {number for _, number in own_endpoints.values()}
    services = {}
    for name, service in spec.services.items():
        before = _earlier(old, name, taken)
        ports = []
        for port in service.ports:
            if port.published is None:
                kept = next((p for p in before if _like(p, port)), None)
                if kept is not None:
                    before.remove(kept)
                owner, address = f"{spec.name}/{name}", port.address(publish_address)
                number = kept.published if kept else _choose(owner, port, address, taken, is_free)
                port = replace(port, published=number)
                taken.add(number)
            ports.append(port)
        services[name] = replace(service, ports=tuple(ports))
    return replace(spec, services=services)


def _published(spec: EnvironmentSpec, publish_address: str) -> list[_Published]:
    return [
        _Published(service=name, port=port, address=port.address(publish_address))
        for name, service in spec.services.items()
        for port in service.ports
    ]


def _meet(one: _Published, other: _Published) -> bool:
    """Ports that vmorch is yet to choose meet none."""
    if one.port.published is None or one.port.published != other.port.published:
        return False
    return _overlap(one.address, other.address) and one.port.protocol == other.port.protocol


def _overlap(one: str, other: str) -> bool:
    return one == other or any(ip_address(address).is_unspecified for address in (one, other))


def _taken(message: str, record: EnvironmentRecord, instead: str) -> Refused:
    if record.removing:
        return Refused(message, hint="It is being removed: wait until it is gone, and try again.")
    return Refused(message, hint=f"Run 'vmorch down -p {record.name}' first, or {instead}.")


def _earlier(old: EnvironmentSpec | None, name: str, taken: set[int | None]) -> list[PublishedPort]:
    service: ServiceSpec | None = old.services.get(name) if old else None
    return [p for p in service.ports if p.published not in taken] if service else []


def _like(one: PublishedPort, other: PublishedPort) -> bool:
    return (one.target, one.host_ip, one.protocol) == (other.target, other.host_ip, other.protocol)


def _choose(
    owner: str, port: PublishedPort, address: str, taken: set[int | None], is_free: IsFree
) -> int:
    """The search begins where the names say: the same environment gets the same port again after
    `down` where it can, and another one does not get what a client may still remember."""
    seed = f"{owner}/{address}/{port.target}/{port.protocol}"
    start = zlib.crc32(seed.encode()) % len(CHOSEN_PORTS)
    for offset in range(len(CHOSEN_PORTS)):
        number = CHOSEN_PORTS[(start + offset) % len(CHOSEN_PORTS)]
        if number not in taken and is_free(address, number):
            return number
    raise Refused(
        f"No port between {CHOSEN_PORTS.start} and {CHOSEN_PORTS.stop - 1} is free for "
        f"'{owner}', port {port.target}.",
        hint="Publish a port of your choice: ports: ['HOST:GUEST'].",
    )
