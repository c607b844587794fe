"""Instances in the store: ordinals that are never reused, addresses that rest before they are."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from vmorch.errors import NotFound, Refused
from vmorch.model import addresses
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.names import Installation, instance_name
from vmorch.store.database import Database
from vmorch.store.documents import dumped, loaded
from vmorch.store.environments import Environments
from vmorch.store.volumes import let_go

QUARANTINE_SECONDS = 60.0
GONE_KEPT = 10_000
"""Instances remembered as gone. A guest of one turns up within seconds or never."""


class Instances:
    """See the methods of the same names in `vmorch.store.protocol.Store`."""

    def __init__(
        self, database: Database, environments: Environments, installation: Installation
    ) -> None:
        self._db = database
        self._environments = environments
        self._installation = installation

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
        with self._db.transaction():
            record = await self._environments.environment(environment)
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

    async def put_instance(self, instance: Instance, *, decides_goal: bool = False) -> None:
        """See `Store.put_instance`."""
        with self._db.transaction():
            goal = self._goal(instance)
            decided = decides_goal or instance.goal is Goal.REMOVE
            if goal is Goal.REMOVE or not decided:
                instance = replace(instance, goal=goal)
            await self._write(instance)

    def _goal(self, instance: Instance) -> Goal:
        """What is decided for it now; its own when nothing is known of it."""
        row = self._db.execute(
            "SELECT document FROM instances WHERE environment = ? AND service = ? AND ordinal = ?",
            instance.key,
        ).fetchone()
        return loaded(Instance, row[0]).goal if row else instance.goal

    async def _write(self, instance: Instance) -> None:
        done = self._db.execute(
            "UPDATE instances SET document = ?"
            " WHERE environment = ? AND service = ? AND ordinal = ?",
            (dumped(Instance, instance), *instance.key),
        )
        if done.rowcount == 0:
            raise NotFound(f"There is no instance '{instance.name}'.")

    async def set_goal(
        self,
        environment: str,
        goal: Goal,
        *,
        services: Collection[str] = (),
        instances: Collection[str] = (),
    ) -> Sequence[Instance]:
        """See `Store.set_goal`."""
        chosen = []
        with self._db.transaction():
            await self._environments.environment(environment)
            for instance in await self.instances(environment):
                named = instance.service in services or instance.name in instances
                if instance.goal is Goal.REMOVE or not (named or not (services or instances)):
                    continue
                # A job that is asked for again has not ended yet: who waits for it must wait.
                again = goal is Goal.RUN and instance.goal is not Goal.RUN
                code = None if again else instance.exit_code
                changed = replace(instance, goal=goal, exit_code=code)
                await self._write(changed)
                chosen.append(changed)
        return chosen

    async def delete_instance(
        self, environment: str, service: str, ordinal: int, *, now: float
    ) -> None:
        key = (environment, service, ordinal)
        with self._db.transaction():
            for instance in await self.instances(environment):
                if instance.key == key:
                    self._disown(instance.uuid, now)
            self._db.execute(
                "INSERT OR REPLACE INTO quarantine SELECT environment, host_number, ?"
                " FROM instances WHERE environment = ? AND service = ? AND ordinal = ?",
                (now, *key),
            )
            self._db.execute(
                "DELETE FROM instances WHERE environment = ? AND service = ? AND ordinal = ?", key
            )
            let_go(self._db, environment, instance_name(service, ordinal))

    async def disown(self, uuids: Collection[str], *, now: float) -> None:
        with self._db.transaction():
            for uuid in uuids:
                self._disown(uuid, now)

    def _disown(self, uuid: str, now: float) -> None:
        self._db.execute("INSERT OR REPLACE INTO gone VALUES (?, ?)", (uuid, now))
        self._db.execute(
            "DELETE FROM gone WHERE rowid <= (SELECT max(rowid) FROM gone) - ?", (GONE_KEPT,)
        )

    async def disowned(self, uuids: Collection[str]) -> frozenset[str]:
        return frozenset(
            uuid
            for uuid in uuids
            if self._db.execute("SELECT 1 FROM gone WHERE uuid = ?", (uuid,)).fetchone()
        )

    async def reserve_ordinal(self, environment: str, service: str, ordinal: int) -> None:
        with self._db.transaction():
            self._db.execute(
                "INSERT INTO ordinals SELECT name, ?2, ?3 FROM environments WHERE name = ?1"
                " ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
                (environment, service, ordinal),
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
