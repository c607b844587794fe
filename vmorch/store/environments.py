"""Environments in the store: what is desired, its revisions, its services' addresses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from vmorch.errors import NotFound, Refused
from vmorch.model import addresses
from vmorch.model.counts import counted, refuse_outside
from vmorch.model.instance import EnvironmentNetwork, Revision
from vmorch.model.rollout import Rollout
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.store.database import Database
from vmorch.store.documents import dumped, loaded
from vmorch.store.exclusive import (
    IsFree,
    OwnEndpoints,
    refuse_conflicts,
    refuse_sharing,
    with_chosen_ports,
)
from vmorch.store.protocol import EnvironmentRecord
from vmorch.store.rollouts import begin_rollout, latest_rollout, replace_rollout
from vmorch.store.volumes import doom, keep_contents, let_go

UNKNOWN_DIGEST = ""
"""Of a revision that was found running (see `vmorch.store.rebuild`)."""


class Environments:
    """See the methods of the same names in `vmorch.store.protocol.Store`.

    `taken_subnets` tells the host's own routes, which a new environment's addresses must avoid;
    `port_is_free` whether nobody listens on a port of an address of the host. `publish_address`
    is that of published ports without one of their own, `own_endpoints` are vmorch's.
    """

    def __init__(
        self,
        database: Database,
        *,
        outer_pool: str,
        inner_subnet: str,
        taken_subnets: Callable[[], Awaitable[Sequence[str]]],
        port_is_free: IsFree,
        publish_address: str,
        own_endpoints: OwnEndpoints,
    ) -> None:
        self._db = database
        self._outer_pool = outer_pool
        self._inner_subnet = inner_subnet
        self._taken_subnets = taken_subnets
        self._port_is_free = port_is_free
        self._publish_address = publish_address
        self._own_endpoints = own_endpoints

    async def environments(self) -> Sequence[EnvironmentRecord]:
        rows = self._db.execute("SELECT document FROM environments ORDER BY name")
        return [loaded(EnvironmentRecord, document) for (document,) in rows]

    async def environment(self, name: str) -> EnvironmentRecord:
        record = self._find(name)
        if record is None:
            raise NotFound(
                f"There is no environment '{name}'.",
                hint="'vmorch env ls' lists what there is.",
            )
        return record

    async def apply(
        self,
        spec: EnvironmentSpec,
        *,
        now: float,
        expected_version: int | None = None,
        expires_at: float | None = None,
        holder: str | None = None,
        canary: int | None = None,
        by_hand: Collection[str] = (),
    ) -> EnvironmentRecord:
        taken = await self._taken_subnets()
        with self._db.transaction():
            old = self._find(spec.name)
            _refuse_stale(old, expected_version)
            others = [r for r in await self.environments() if r.name != spec.name]
            refuse_conflicts(spec, others, self._publish_address, self._own_endpoints)
            spec = counted(spec, old.spec if old else None, now=now, by_hand=by_hand)
            contents = spec.contents
            spec = replace(spec, contents={})
            spec = with_chosen_ports(
                spec,
                old.spec if old else None,
                others,
                is_free=self._port_is_free,
                publish_address=self._publish_address,
                own_endpoints=self._own_endpoints,
            )
            record = self._changed(old, spec) if old else self._created(spec, now, taken)
            record = replace(
                record,
                expires_at=expires_at or record.expires_at,
                holder=holder or record.holder,
            )
            self._save(record)
            keep_contents(self._db, spec.name, contents)
            record = self._with_revisions(record, now)
            self._begin_rollouts(old.current if old else {}, record, now, canary)
            self._assign_service_addresses(record)
            self._save(record)
        return record

    async def scale(
        self,
        environment: str,
        replicas: Mapping[str, int],
        *,
        now: float,
        expected_version: int | None = None,
    ) -> EnvironmentRecord:
        with self._db.transaction():
            record = await self.environment(environment)
            _refuse_stale(record, expected_version)
            services = dict(record.spec.services)
            for name, count in replicas.items():
                if name not in services:
                    raise NotFound(
                        f"Environment '{environment}' has no service '{name}'.",
                        hint=f"Its services: {', '.join(services)}.",
                    )
                refuse_sharing(services[name], count)
                refuse_outside(services[name], count, now=now)
                services[name] = replace(services[name], replicas=count)
            record = replace(
                record,
                spec=replace(record.spec, services=services),
                version=record.version + 1,
            )
            self._save(record)
        return record

    async def remove(self, environment: str, *, volumes: bool, now: float) -> EnvironmentRecord:
        with self._db.transaction():
            record = await self.environment(environment)
            record = replace(
                record,
                removing=True,
                remove_volumes=record.remove_volumes or volumes,
                version=record.version + 1,
            )
            self._save(record)
            if volumes:
                doom(self._db, environment)
        return record

    async def forget(self, environment: str) -> None:
        with self._db.transaction():
            self._db.execute("DELETE FROM environments WHERE name = ?", (environment,))
            let_go(self._db, environment)

    def _find(self, name: str) -> EnvironmentRecord | None:
        row = self._db.execute(
            "SELECT document FROM environments WHERE name = ?", (name,)
        ).fetchone()
        return loaded(EnvironmentRecord, row[0]) if row else None

    def _created(
        self, spec: EnvironmentSpec, now: float, taken: Sequence[str]
    ) -> EnvironmentRecord:
        used = {i for (i,) in self._db.execute("SELECT network_index FROM environments")}
        network = addresses.allocate_network(
            spec.name,
            used_indices=used,
            taken=taken,
            outer_pool=self._outer_pool,
            inner=spec.network.subnet or self._inner_subnet,
            internal=spec.network.internal,
        )
        return EnvironmentRecord(
            name=spec.name, spec=spec, version=1, network=network, current={}, created_at=now
        )

    def _changed(self, old: EnvironmentRecord, spec: EnvironmentSpec) -> EnvironmentRecord:
        network = _changed_network(old.network, spec, self._inner_subnet)
        return replace(old, spec=spec, network=network, version=old.version + 1)

    def _save(self, record: EnvironmentRecord) -> None:
        self._db.execute(
            "INSERT INTO environments (name, version, network_index, document)"
            " VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE"
            " SET version = excluded.version, document = excluded.document",
            (
                record.name,
                record.version,
                record.network.index,
                dumped(EnvironmentRecord, record),
            ),
        )

    # Revisions and service addresses

    async def revisions(self, environment: str) -> Sequence[Revision]:
        rows = self._db.execute(
            "SELECT document FROM revisions WHERE environment = ? ORDER BY service, number",
            (environment,),
        )
        return [loaded(Revision, document) for (document,) in rows]

    def _with_revisions(self, record: EnvironmentRecord, now: float) -> EnvironmentRecord:
        """The record with `current` brought up to date; new revisions are written down."""
        current = {
            name: self._revision_of(record, service, now).number
            for name, service in record.spec.services.items()
        }
        return replace(record, current=current)

    def _revision_of(self, record: EnvironmentRecord, service: ServiceSpec, now: float) -> Revision:
        """The one that `service` is, if it is a known one, else the next."""
        digest = service.revision_digest()
        for known in self._candidates(record, service.name):
            if known.digest == digest or _is_found_again(known, service):
                if known.digest != digest or known.spec != service:
                    known = replace(known, digest=digest, spec=service)
                    self._keep_revision(known)
                return known
        newest = self._newest_revision(record.name, service.name)
        revision = Revision(
            environment=record.name,
            service=service.name,
            number=newest.number + 1 if newest else 1,
            digest=digest,
            spec=service,
            created_at=now,
        )
        self._keep_revision(revision)
        return revision

    def _candidates(self, record: EnvironmentRecord, service: str) -> Iterator[Revision]:
        """Revisions that a service may be found to be again: the one that it has, the one that an
        open rollout comes from, and the newest, which may have been rolled back."""
        rollout = latest_rollout(self._db, record.name, service)
        previous = rollout.previous if rollout and rollout.is_open else None
        for number in (record.current.get(service), previous):
            known = self._revision(record.name, service, number) if number else None
            if known is not None:
                yield known
        newest = self._newest_revision(record.name, service)
        if newest is not None:
            yield newest

    def _begin_rollouts(
        self, before: dict[str, int], record: EnvironmentRecord, now: float, canary: int | None
    ) -> None:
        for name, number in record.current.items():
            if before.get(name) == number:
                continue
            if canary is not None and name in before:
                _refuse_canary(record.spec.services[name])
            begin_rollout(
                self._db,
                record.name,
                name,
                number,
                now=now,
                reason="it was applied",
                canary=canary,
            )

    async def roll_back(
        self, rollout: Rollout, to: int, *, was: Rollout, reason: str, now: float
    ) -> Rollout:
        with self._db.transaction():
            replace_rollout(self._db, was, rollout)
            record = await self.environment(rollout.environment)
            _refuse_stale(record, None)
            declared = record.spec.services.get(rollout.service)
            revision = self._revision(record.name, rollout.service, to)
            if declared is None or revision is None:
                raise NotFound(f"'{rollout.service}' has no revision {to}.")
            services = {**record.spec.services, declared.name: declared.back_to(revision.spec)}
            record = replace(
                record,
                spec=replace(record.spec, services=services),
                current={**record.current, declared.name: to},
                version=record.version + 1,
            )
            self._save(record)
            return begin_rollout(
                self._db, record.name, declared.name, to, now=now, reason=reason, rollback=True
            )

    def _keep_revision(self, revision: Revision) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO revisions (environment, service, number, document)"
            " VALUES (?, ?, ?, ?)",
            (
                revision.environment,
                revision.service,
                revision.number,
                dumped(Revision, revision),
            ),
        )

    def _revision(self, environment: str, service: str, number: int) -> Revision | None:
        row = self._db.execute(
            "SELECT document FROM revisions WHERE environment = ? AND service = ? AND number = ?",
            (environment, service, number),
        ).fetchone()
        return loaded(Revision, row[0]) if row else None

    def _newest_revision(self, environment: str, service: str) -> Revision | None:
        row = self._db.execute(
            "SELECT document FROM revisions WHERE environment = ? AND service = ?"
            " ORDER BY number DESC LIMIT 1",
            (environment, service),
        ).fetchone()
        return loaded(Revision, row[0]) if row else None

    async def service_addresses(self, environment: str) -> dict[str, str]:
        record = await self.environment(environment)
        rows = self._db.execute(
            "SELECT service, position FROM service_addresses WHERE environment = ?"
            " ORDER BY service",
            (environment,),
        )
        return {s: addresses.service_address(record.network, p) for s, p in rows}

    def _assign_service_addresses(self, record: EnvironmentRecord) -> None:
        held = dict(
            self._db.execute(
                "SELECT service, position FROM service_addresses WHERE environment = ?",
                (record.name,),
            ).fetchall()
        )
        for gone in held.keys() - record.spec.services.keys():
            del held[gone]
            self._db.execute(
                "DELETE FROM service_addresses WHERE environment = ? AND service = ?",
                (record.name, gone),
            )
        for name in record.spec.services:
            if name not in held:
                held[name] = _lowest_free(set(held.values()))
                addresses.service_address(record.network, held[name])  # refuses beyond the range
                self._db.execute(
                    "INSERT INTO service_addresses VALUES (?, ?, ?)",
                    (record.name, name, held[name]),
                )


def _is_found_again(newest: Revision, service: ServiceSpec) -> bool:
    """Whether the guests that were found running are taken for what is declared now."""
    return newest.digest == UNKNOWN_DIGEST and newest.spec.image == service.image


def _refuse_stale(record: EnvironmentRecord | None, expected_version: int | None) -> None:
    if record is not None and record.removing:
        raise Refused(
            f"Environment '{record.name}' is being removed.",
            hint="Wait until 'vmorch down' has ended, then try again.",
        )
    version = record.version if record else 0
    if expected_version is not None and expected_version != version:
        raise Refused(
            f"The environment is at version {version}, not {expected_version}: "
            "somebody else changed it.",
            hint="Look at it again ('vmorch ps') and repeat the command.",
        )


def _changed_network(
    old: EnvironmentNetwork, spec: EnvironmentSpec, default_inner: str
) -> EnvironmentNetwork:
    inner = spec.network.subnet or default_inner
    if inner != old.inner:
        raise Refused(
            f"Environment '{old.environment}' runs with the subnet {old.inner}; "
            f"it cannot change to {inner} while it lives.",
            hint="Run 'vmorch down' first, or keep the subnet.",
        )
    return replace(old, internal=spec.network.internal)


def _refuse_canary(service: ServiceSpec) -> None:
    if service.volumes:
        raise Refused(
            f"'{service.name}' has volumes, so it cannot have a canary beside its instances.",
            hint="Roll it out without --canary; a bad revision is rolled back by itself.",
        )


def _lowest_free(taken: set[int]) -> int:
    return next(n for n in range(len(taken) + 1) if n not in taken)
