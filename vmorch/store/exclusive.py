"""What only one environment of a host can have: published ports, and host names of routes.

Purely computational but for `IsFree`, which asks the host; `vmorch.store.environments` calls it
inside the transaction that writes the answer down, so that no two environments get the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address

from vmorch.errors import Refused
from vmorch.model.spec import EnvironmentSpec, PublishedPort, ServiceSpec
from vmorch.store.protocol import EnvironmentRecord

# Whether nobody on the host listens on this port of this address now.
IsFree = Callable[[str, int], bool]

# Below Linux's range for outgoing connections (net.ipv4.ip_local_port_range begins at 32768): a
# number from that range could be in use by a client's connection when HAProxy wants it.
CHOSEN_PORTS = range(30000, 32768)


def always_free(address: str, port: int) -> bool:
    return True


def refuse_conflicts(spec: EnvironmentSpec, others: Sequence[EnvironmentRecord]) -> None:
    """Raises Refused, naming the other environment, when it has a port or host name of `spec`."""
    for record in others:
        for service, port in _published(spec):
            for theirs, taken in _published(record.spec):
                if port.published is not None and _meet(port, taken):
                    raise _taken(
                        f"Port {port.published} of {port.host_ip}, which '{service}' publishes, "
                        f"is published by '{theirs}' of the environment '{record.name}'.",
                        record,
                        f"publish another, or let vmorch choose one (ports: ['{port.target}'])",
                    )
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


def with_chosen_ports(
    spec: EnvironmentSpec,
    old: EnvironmentSpec | None,
    others: Sequence[EnvironmentRecord],
    is_free: IsFree,
) -> EnvironmentSpec:
    """`spec` with a number for each published port that has none: the one that it has in `old`,
    else one that no environment has and that is free on the host.

    Raises:
        Refused: all are taken.
    """
    known = [*_published(spec), *(p for r in others for p in _published(r.spec))]
    taken: set[int | None] = {port.published for _, port in known} - {None}
    services = {}
    for name, service in spec.services.items():
        before = _earlier(old, name, taken)
        ports = []
        for port in service.ports:
            if port.published is None:
                kept = next((p for p in before if _like(p, port)), None)
                if kept is not None:
                    before.remove(kept)
                number = kept.published if kept else _choose(spec.name, name, port, taken, is_free)
                port = replace(port, published=number)
                taken.add(number)
            ports.append(port)
        services[name] = replace(service, ports=tuple(ports))
    return replace(spec, services=services)


def _published(spec: EnvironmentSpec) -> Iterator[tuple[str, PublishedPort]]:
    for name, service in spec.services.items():
        for port in service.ports:
            yield name, port


def _meet(one: PublishedPort, other: PublishedPort) -> bool:
    if (one.published, one.protocol) != (other.published, other.protocol):
        return False
    everywhere = any(ip_address(port.host_ip).is_unspecified for port in (one, other))
    return everywhere or one.host_ip == other.host_ip


def _taken(message: str, record: EnvironmentRecord, instead: str) -> Refused:
    if record.removing:
        return Refused(message, hint="It is being removed: wait until it is gone, and try again.")
    return Refused(message, hint=f"Run 'vmorch down -p {record.name}' first, or {instead}.")


def _earlier(old: EnvironmentSpec | None, name: str, taken: set[int | None]) -> list[PublishedPort]:
    service: ServiceSpec | None = old.services.get(name) if old else None
    return [p for p in service.ports if p.published not in taken] if service else []


def _like(one: PublishedPort, other: PublishedPort) -> bool:
    return replace(one, published=None) == replace(other, published=None)


def _choose(
    environment: str, service: str, port: PublishedPort, taken: set[int | None], is_free: IsFree
) -> int:
    """The search begins where the names say: the same environment gets the same port again after
    `down` where it can, and another one does not get what a client may still remember."""
    seed = f"{environment}/{service}/{port.host_ip}/{port.target}/{port.protocol}"
    start = zlib.crc32(seed.encode()) % len(CHOSEN_PORTS)
    for offset in range(len(CHOSEN_PORTS)):
        number = CHOSEN_PORTS[(start + offset) % len(CHOSEN_PORTS)]
        if number not in taken and is_free(port.host_ip, number):
            return number
    raise Refused(
        f"No port between {CHOSEN_PORTS.start} and {CHOSEN_PORTS.stop - 1} is free for "
        f"'{service}', port {port.target}.",
        hint="Publish a port of your choice: ports: ['HOST:GUEST'].",
    )
