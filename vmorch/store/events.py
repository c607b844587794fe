"""Events in the store, and waiting for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from vmorch.model.event import Event, EventKind
from vmorch.store.database import Database

EVENTS_KEPT = 50_000


class Events:
    """See the methods of the same names in `vmorch.store.protocol.Store`."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._new_event = asyncio.Event()

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
        with self._db.transaction():
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
        return [_event(row) for row in rows]

    async def last_events(self, environment: str, subject: str, *, limit: int) -> Sequence[Event]:
        rows = self._db.execute(
            "SELECT id, time, environment, service, instance, kind, message FROM events"
            " WHERE environment = ?1 AND ?2 IN (service, instance) ORDER BY id DESC LIMIT ?3",
            (environment, subject, limit),
        )
        return [_event(row) for row in rows][::-1]

    async def wait_for_event(self, after: int) -> None:
        while True:
            coming = self._new_event
            if self._db.execute("SELECT 1 FROM events WHERE id > ? LIMIT 1", (after,)).fetchone():
                return
            await coming.wait()


def _event(row: tuple[int, float, str, str, str, str, str]) -> Event:
    number, time, environment, service, instance, kind, message = row
    return Event(
        id=number,
        time=time,
        environment=environment,
        service=service,
        instance=instance,
        kind=EventKind(kind),
        message=message,
    )
