"""Rollouts in the store. One begins in the same step in which a service gets another revision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vmorch.errors import NotFound, Refused
from vmorch.model.rollout import Phase, Rollout
from vmorch.store.database import Database
from vmorch.store.documents import dumped, loaded

KEPT = 50
"""Rollouts that are remembered, for each service."""


def begin_rollout(
    database: Database,
    environment: str,
    service: str,
    revision: int,
    *,
    now: float,
    reason: str,
    rollback: bool = False,
    canary: int | None = None,
) -> Rollout:
    """The next rollout of the service; one that is under way ends by it. Within a transaction."""
    last = latest_rollout(database, environment, service)
    if last is not None and last.is_open:
        why = f"replaced on its way by the one to revision {revision}"
        _write(database, replace(last, phase=Phase.SUPERSEDED, reason=why, ended_at=now))
    previous = last.good_revision if last else None
    rollout = Rollout(
        environment=environment,
        service=service,
        number=last.number + 1 if last else 1,
        revision=revision,
        # The way back to a good revision is safe by itself.
        previous=None if previous == revision else previous,
        started_at=now,
        rollback=rollback,
        reason=reason,
        canary=None if previous is None else canary,
    )
    _write(database, rollout)
    database.execute(
        "DELETE FROM rollouts WHERE environment = ? AND service = ? AND number <= ?",
        (environment, service, rollout.number - KEPT),
    )
    return rollout


def latest_rollout(database: Database, environment: str, service: str) -> Rollout | None:
    row = database.execute(
        "SELECT document FROM rollouts WHERE environment = ? AND service = ?"
        " ORDER BY number DESC LIMIT 1",
        (environment, service),
    ).fetchone()
    return loaded(Rollout, row[0]) if row else None


def replace_rollout(database: Database, was: Rollout, now_is: Rollout) -> None:
    """Within a transaction. Raises Refused (it is no longer what it was)."""
    if latest_rollout(database, was.environment, was.service) != was:
        raise Refused(
            f"The rollout of '{was.service}' has gone on since it was looked at.",
            hint="Look at it again ('vmorch rollout status') and repeat the command.",
        )
    _write(database, now_is)


def _write(database: Database, rollout: Rollout) -> None:
    database.execute(
        "INSERT OR REPLACE INTO rollouts (environment, service, number, document)"
        " VALUES (?, ?, ?, ?)",
        (*rollout.key, dumped(Rollout, rollout)),
    )


class Rollouts:
    """See the methods of the same names in `vmorch.store.protocol.Store`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def rollouts(self, environment: str, service: str) -> Sequence[Rollout]:
        rows = self._db.execute(
            "SELECT document FROM rollouts WHERE environment = ? AND service = ? ORDER BY number",
            (environment, service),
        )
        return [loaded(Rollout, document) for (document,) in rows]

    async def latest_rollouts(self, environment: str) -> dict[str, Rollout]:
        rows = self._db.execute(
            "SELECT service, document, MAX(number) FROM rollouts WHERE environment = ?"
            " GROUP BY service",
            (environment,),
        )
        return {service: loaded(Rollout, document) for service, document, _ in rows}

    async def latest_rollout(self, environment: str, service: str) -> Rollout:
        found = latest_rollout(self._db, environment, service)
        if found is None:
            raise NotFound(
                f"'{service}' of '{environment}' has had no rollout yet.",
                hint="One begins when 'vmorch up' brings a new revision.",
            )
        return found

    async def put_rollout(self, rollout: Rollout, *, was: Rollout) -> None:
        with self._db.transaction():
            replace_rollout(self._db, was, rollout)
