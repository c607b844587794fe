"""A store made anew from the guests that run, when the old one and its copies are lost.

A guest's domain knows its service, address and image, but not the whole of its spec. What is
written here is just enough to let it run on as it is; the next `vmorch up` brings the spec, and
adopts the guests of each service whose image has not changed (`UNKNOWN_DIGEST`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network
from itertools import groupby

from vmorch.model import addresses
from vmorch.model.found import FoundGuest
from vmorch.model.instance import EnvironmentNetwork, Goal, Instance, Revision, State
from vmorch.model.names import Installation
from vmorch.model.spec import (
    EnvironmentSpec,
    HealthCheck,
    HealthKind,
    NetworkSpec,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
)
from vmorch.store.database import Database
from vmorch.store.documents import dumped
from vmorch.store.environments import UNKNOWN_DIGEST
from vmorch.store.protocol import EnvironmentRecord

REASON = "found running; 'vmorch up' tells what it should be"


def rebuild(
    database: Database,
    guests: Sequence[FoundGuest],
    installation: Installation,
    *,
    outer_pool: str,
    inner_subnet: str,
    now: float,
) -> None:
    """Write down everything that the guests tell, into a database that is empty."""
    with database.transaction():
        for name, members in groupby(
            sorted(guests, key=lambda g: (g.environment, g.service, g.ordinal)),
            key=lambda g: g.environment,
        ):
            _Environment(name, list(members), installation, outer_pool, inner_subnet, now).write(
                database
            )


class _Environment:
    def __init__(
        self,
        name: str,
        guests: list[FoundGuest],
        installation: Installation,
        outer_pool: str,
        inner_subnet: str,
        now: float,
    ) -> None:
        self._guests = guests
        self._installation = installation
        self._now = now
        subnet = guests[0].subnet
        self._network = EnvironmentNetwork(
            environment=name,
            index=guests[0].network_index,
            inner=subnet or inner_subnet,
            outer=addresses.outer_range(outer_pool, guests[0].network_index),
            link=addresses.link_range(outer_pool, guests[0].network_index),
            internal=False,
        )
        self._services = {
            service: list(members) for service, members in groupby(guests, key=lambda g: g.service)
        }
        explicit = subnet if subnet and IPv4Network(subnet) != IPv4Network(inner_subnet) else None
        self._spec = EnvironmentSpec(
            name=name,
            services={s: _newest_spec(members) for s, members in self._services.items()},
            network=NetworkSpec(subnet=explicit),
        )

    def write(self, database: Database) -> None:
        record = EnvironmentRecord(
            name=self._spec.name,
            spec=self._spec,
            version=1,
            network=self._network,
            current={s: max(g.revision for g in found) for s, found in self._services.items()},
            created_at=self._now,
        )
        database.execute(
            "INSERT INTO environments (name, version, network_index, document) VALUES (?, 1, ?, ?)",
            (record.name, self._network.index, dumped(EnvironmentRecord, record)),
        )
        for position, (service, found) in enumerate(self._services.items()):
            self._write_service(database, service, position, found)

    def _write_service(
        self, database: Database, service: str, position: int, found: list[FoundGuest]
    ) -> None:
        name = self._spec.name
        database.execute(
            "INSERT INTO service_addresses VALUES (?, ?, ?)", (name, service, position)
        )
        last = max(guest.ordinal for guest in found)
        database.execute("INSERT INTO ordinals VALUES (?, ?, ?)", (name, service, last))
        for revision in self._revisions(service, found):
            database.execute(
                "INSERT INTO revisions (environment, service, number, document)"
                " VALUES (?, ?, ?, ?)",
                (name, service, revision.number, dumped(Revision, revision)),
            )
        for guest in found:
            instance = self._instance(guest)
            database.execute(
                "INSERT INTO instances (environment, service, ordinal, host_number, document)"
                " VALUES (?, ?, ?, ?, ?)",
                (*instance.key, guest.host_number, dumped(Instance, instance)),
            )

    def _revisions(self, service: str, found: list[FoundGuest]) -> Iterable[Revision]:
        for number in sorted({guest.revision for guest in found}):
            of_it = [guest for guest in found if guest.revision == number]
            yield Revision(
                environment=self._spec.name,
                service=service,
                number=number,
                digest=UNKNOWN_DIGEST,
                spec=_newest_spec(of_it),
                created_at=self._now,
            )

    def _instance(self, guest: FoundGuest) -> Instance:
        number = guest.host_number
        return Instance(
            environment=guest.environment,
            service=guest.service,
            ordinal=guest.ordinal,
            revision=guest.revision,
            uuid=guest.uuid,
            mac=addresses.mac_address(self._installation.id, guest.network_index, number),
            inner_address=addresses.inner_address(self._network, number),
            outer_address=addresses.outer_address(self._network, number),
            goal=Goal.RUN,
            state=State.RUNNING,
            reason=REASON,
            created_at=self._now,
            boot=guest.boot,
            started_at=self._now,
        )


def _newest_spec(found: list[FoundGuest]) -> ServiceSpec:
    """Neither judged nor restarted: what it should answer is not known, and a guest made from so
    little would not be what it was."""
    newest = max(found, key=lambda guest: (guest.revision, guest.ordinal))
    return ServiceSpec(
        name=newest.service,
        image=newest.image,
        replicas=sum(guest.revision == newest.revision for guest in found),
        cpus=newest.cpus,
        memory_bytes=newest.memory_bytes,
        healthcheck=HealthCheck(kind=HealthKind.NONE),
        restart=RestartPolicy(condition=RestartCondition.NONE),
    )
