"""The store in one SQLite file, written by one daemon.

Statements run in the caller's thread: each is one short transaction on a local file, and the
simulation needs them to take no real time. WAL with synchronous=FULL makes a commit durable.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vmorch.errors import NotFound, Refused, StoreError
from vmorch.model import addresses
from vmorch.model.event import Event, EventKind
from vmorch.model.instance import EnvironmentNetwork, Goal, Instance, Revision, State
from vmorch.model.names import Installation
from vmorch.model.spec import EnvironmentSpec
from vmorch.store.documents import dumped, loaded
from vmorch.store.protocol import EnvironmentRecord
from vmorch.store.schema import migrate

QUARANTINE_SECONDS = 60.0
EVENTS_KEPT = 50_000


async def no_subnets() -> Sequence[str]:
    return ()


class SqliteStore:
    """See `vmorch.store.protocol.Store`.

    `taken_subnets` tells the host's own routes, which a new environment's addresses must avoid.

    Raises:
        StoreError: the file is no database of ours, is damaged, or a newer vmorch wrote it.
    """

    def __init__(
        self,
        path: Path | str,
        installation: Installation,
        *,
        outer_pool: str,
        inner_subnet: str,
        taken_subnets: Callable[[], Awaitable[Sequence[str]]] = no_subnets,
    ) -> None:
        self._installation = installation
        self._outer_pool = outer_pool
        self._inner_subnet = inner_subnet
        self._taken_subnets = taken_subnets
        self._new_event = asyncio.Event()
        self._db = _opened(path)

    @property
    def installation(self) -> Installation:
        return self._installation

    # Environments

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
        self, spec: EnvironmentSpec, *, now: float, expected_version: int | None = None
    ) -> EnvironmentRecord:
        taken = await self._taken_subnets()
        with self._transaction():
            old = self._find(spec.name)
            _refuse_stale(old, expected_version)
            record = self._changed(old, spec) if old else self._created(spec, now, taken)
            self._save(record)
            record = self._with_revisions(record, now)
            self._assign_service_addresses(record)
            self._save(record)
        return record

    async def scale(
        self, environment: str, replicas: dict[str, int], *, now: float
    ) -> EnvironmentRecord:
        with self._transaction():
            record = await self.environment(environment)
            _refuse_stale(record, None)
            services = dict(record.spec.services)
            for name, count in replicas.items():
                if name not in services:
                    raise NotFound(
                        f"Environment '{environment}' has no service '{name}'.",
                        hint=f"Its services: {', '.join(services)}.",
                    )
                services[name] = replace(services[name], replicas=count)
            record = replace(
                record,
                spec=replace(record.spec, services=services),
                version=record.version + 1,
            )
            self._save(record)
        return record

    async def remove(self, environment: str, *, volumes: bool, now: float) -> EnvironmentRecord:
        with self._transaction():
            record = await self.environment(environment)
            record = replace(
                record,
                removing=True,
                remove_volumes=record.remove_volumes or volumes,
                version=record.version + 1,
            )
            self._save(record)
        return record

    async def forget(self, environment: str) -> None:
        with self._transaction():
            self._db.execute("DELETE FROM environments WHERE name = ?", (environment,))

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
        current = {s: n for s, n in record.current.items() if s in record.spec.services}
        for name, service in record.spec.services.items():
            digest = service.revision_digest()
            newest = self._newest_revision(record.name, name)
            if newest is not None and newest.digest == digest:
                current[name] = newest.number
                continue
            revision = Revision(
                environment=record.name,
                service=name,
                number=newest.number + 1 if newest else 1,
                digest=digest,
                spec=service,
                created_at=now,
            )
            self._db.execute(
                "INSERT INTO revisions (environment, service, number, document)"
                " VALUES (?, ?, ?, ?)",
                (record.name, name, revision.number, dumped(Revision, revision)),
            )
            current[name] = revision.number
        return replace(record, current=current)

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

    # Instances

    async def instances(self, environment: str | None = None) -> Sequence[Instance]:
        rows = self._db.execute(
            "SELECT document FROM instances WHERE ?1 IS NULL OR environment = ?1"
            " ORDER BY environment, service, ordinal",
            (environment,),
        )
        return [loaded(Instance, document) for (document,) in rows]

    async def create_instance(
        self, environment: str, service: str, revision: int, *, uuid: str, now: float
    ) -> Instance:
        with self._transaction():
            record = await self.environment(environment)
            ordinal = self._next_ordinal(environment, service)
            host_number = self._free_host_number(record.name, now)
            instance = Instance(
                environment=environment,
                service=service,
                ordinal=ordinal,
                revision=revision,
                uuid=uuid,
                mac=addresses.mac_address(self._installation.id, record.network.index, host_number),
                inner_address=addresses.inner_address(record.network, host_number),
                outer_address=addresses.outer_address(record.network, host_number),
                goal=Goal.RUN,
                state=State.PENDING,
                reason="created",
                created_at=now,
            )
            self._db.execute(
                "INSERT INTO instances VALUES (?, ?, ?, ?, ?)",
                (environment, service, ordinal, host_number, dumped(Instance, instance)),
            )
        return instance

    async def put_instance(self, instance: Instance) -> None:
        with self._transaction():
            done = self._db.execute(
                "UPDATE instances SET document = ?"
                " WHERE environment = ? AND service = ? AND ordinal = ?",
                (
                    dumped(Instance, instance),
                    instance.environment,
                    instance.service,
                    instance.ordinal,
                ),
            )
            if done.rowcount == 0:
                raise NotFound(f"There is no instance '{instance.name}'.")

    async def delete_instance(
        self, environment: str, service: str, ordinal: int, *, now: float
    ) -> None:
        key = (environment, service, ordinal)
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO quarantine SELECT environment, host_number, ?"
                " FROM instances WHERE environment = ? AND service = ? AND ordinal = ?",
                (now, *key),
            )
            self._db.execute(
                "DELETE FROM instances WHERE environment = ? AND service = ? AND ordinal = ?", key
            )

    def _next_ordinal(self, environment: str, service: str) -> int:
        row: tuple[int] = self._db.execute(
            "INSERT INTO ordinals VALUES (?, ?, 1)"
            " ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last",
            (environment, service),
        ).fetchone()
        return row[0]

    def _free_host_number(self, environment: str, now: float) -> int:
        """The longest unused address: a stale ARP entry or a client's cache of a gone instance
        should not lead to its successor at once."""
        used = {
            n
            for (n,) in self._db.execute(
                "SELECT host_number FROM instances WHERE environment = ?", (environment,)
            )
        }
        released = dict(
            self._db.execute(
                "SELECT host_number, released_at FROM quarantine WHERE environment = ?",
                (environment,),
            ).fetchall()
        )
        free = [n for n in addresses.instance_host_numbers() if n not in used]
        rested = [n for n in free if now - released.get(n, -math.inf) >= QUARANTINE_SECONDS]
        if not rested:
            raise Refused(
                f"Environment '{environment}' has no free address: {len(used)} in use, "
                f"{len(free)} released less than {QUARANTINE_SECONDS:.0f} s ago.",
                hint="Scale some services down, or split the environment.",
                retryable=True,
            )
        return min(rested, key=lambda n: (released.get(n, -math.inf), n))

    # Events

    async def add_event(
        self,
        kind: EventKind,
        message: str,
        *,
        now: float,
        environment: str,
        service: str = "",
        instance: str = "",
    ) -> Event:
        with self._transaction():
            (number,) = self._db.execute(
                "INSERT INTO events (time, environment, service, instance, kind, message)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
                (now, environment, service, instance, kind.value, message),
            ).fetchone()
            self._db.execute("DELETE FROM events WHERE id <= ?", (number - EVENTS_KEPT,))
        self._new_event.set()
        self._new_event = asyncio.Event()
        return Event(
            id=number,
            time=now,
            environment=environment,
            service=service,
            instance=instance,
            kind=kind,
            message=message,
        )

    async def events(
        self, *, after: int = 0, environment: str | None = None, limit: int = 1000
    ) -> Sequence[Event]:
        rows = self._db.execute(
            "SELECT id, time, environment, service, instance, kind, message FROM events"
            " WHERE id > ?1 AND (?2 IS NULL OR environment = ?2) ORDER BY id LIMIT ?3",
            (after, environment, limit),
        )
        return [
            Event(
                id=row[0],
                time=row[1],
                environment=row[2],
                service=row[3],
                instance=row[4],
                kind=EventKind(row[5]),
                message=row[6],
            )
            for row in rows
        ]

    async def wait_for_event(self, after: int) -> None:
        while True:
            coming = self._new_event
            if self._db.execute("SELECT 1 FROM events WHERE id > ? LIMIT 1", (after,)).fetchone():
                return
            await coming.wait()

    async def close(self) -> None:
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; no other task runs inside, as nothing in it waits."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._commit()

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._db.execute("ROLLBACK")
            raise StoreError(
                f"The store could not be written: {error}.",
                hint="Is the disk of the state directory full? Nothing was changed.",
                retryable=True,
            ) from error


def _opened(path: Path | str) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreError(
                f"The database {path} is damaged: {verdict}.",
                hint="Move it away and restore a copy; running guests are not touched.",
            )
        migrate(connection)
    except sqlite3.Error as error:
        raise StoreError(
            f"The database {path} cannot be opened: {error}.",
            hint="Move it away and restore a copy; running guests are not touched.",
        ) from error
    return connection


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


def _lowest_free(taken: set[int]) -> int:
    return next(n for n in range(len(taken) + 1) if n not in taken)
