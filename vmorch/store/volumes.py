"""Volumes in the store, which outlive their environment's record; and secrets and configs."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, Sequence

from vmorch.errors import NotFound, Refused
from vmorch.model.instance import Instance
from vmorch.model.spec import DEFAULT_VOLUME_BYTES, VolumeMount
from vmorch.model.volume import Volume
from vmorch.store.database import Database

_COLUMNS = "environment, name, slot, size_bytes, holder, removing, made"


class Volumes:
    """See the methods of the same names in `vmorch.store.protocol.Store`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def volumes(self, environment: str | None = None) -> Sequence[Volume]:
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM volumes WHERE ?1 IS NULL OR environment = ?1"
            " ORDER BY environment, name, slot",
            (environment,),
        )
        return [_volume(row) for row in rows]

    async def claim_volumes(
        self, instance: Instance, mounts: Sequence[VolumeMount], sizes: Mapping[str, int]
    ) -> Sequence[Volume]:
        with self._db.transaction():
            return [self._claim(instance, mount, sizes.get(mount.source)) for mount in mounts]

    def _claim(self, instance: Instance, mount: VolumeMount, size_bytes: int | None) -> Volume:
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM volumes WHERE environment = ? AND name = ? ORDER BY slot",
            (instance.environment, mount.source),
        )
        known = {volume.slot: volume for volume in map(_volume, rows)}
        slot = _slot(instance, known) if mount.per_instance else 0
        old = known.get(slot)
        if old is not None and (old.removing or old.holder not in {None, instance.name}):
            raise Refused(
                f"The volume '{mount.source}' still belongs to {old.holder or 'nobody'}"
                f"{' and is being removed' if old.removing else ''}.",
                hint="It is taken as soon as it is free.",
                retryable=True,
            )
        size = max(size_bytes or 0, old.size_bytes if old else 0) or DEFAULT_VOLUME_BYTES
        key = (instance.environment, mount.source, slot)
        self._db.execute(
            "INSERT INTO volumes (environment, name, slot, size_bytes, holder)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET size_bytes = excluded.size_bytes, holder = excluded.holder",
            (*key, size, instance.name),
        )
        return Volume(
            environment=key[0],
            name=key[1],
            slot=slot,
            size_bytes=size,
            holder=instance.name,
            made=old is not None and old.made,
        )

    async def note_made(self, volume: Volume) -> None:
        with self._db.transaction():
            self._db.execute(
                "UPDATE volumes SET made = 1 WHERE environment = ? AND name = ? AND slot = ?",
                (volume.environment, volume.name, volume.slot),
            )

    async def remove_volumes(self, environment: str) -> None:
        with self._db.transaction():
            if not doom(self._db, environment):
                raise NotFound(
                    f"There is no environment '{environment}', and no volume of one.",
                    hint="'vmorch env ls' lists what there is.",
                )

    async def forget_volume(self, volume: Volume) -> None:
        with self._db.transaction():
            self._db.execute(
                "DELETE FROM volumes WHERE environment = ? AND name = ? AND slot = ?",
                (volume.environment, volume.name, volume.slot),
            )

    async def contents(self, environment: str, digests: Collection[str]) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        for digest in digests:
            row = self._db.execute(
                "SELECT content FROM contents WHERE environment = ? AND digest = ?",
                (environment, digest),
            ).fetchone()
            if row is None:
                raise NotFound(
                    f"A secret or config of '{environment}' is not in the store.",
                    hint="Run 'vmorch up' again, which sends it.",
                )
            found[digest] = row[0]
        return found


def keep_contents(database: Database, environment: str, contents: Mapping[str, str]) -> None:
    """Inside a transaction. Contents of earlier revisions stay: their instances may start anew."""
    for digest, content in contents.items():
        database.execute(
            "INSERT OR IGNORE INTO contents VALUES (?, ?, ?)",
            (environment, digest, base64.b64decode(content)),
        )


def doom(database: Database, environment: str) -> bool:
    """Inside a transaction: let its volumes go when nobody holds them any more; are there any?"""
    done = database.execute("UPDATE volumes SET removing = 1 WHERE environment = ?", (environment,))
    return done.rowcount > 0


def let_go(database: Database, environment: str, holder: str | None = None) -> None:
    """Inside a transaction: the volumes of an instance that is gone (None: of all) are free."""
    database.execute(
        "UPDATE volumes SET holder = NULL WHERE environment = ?1 AND holder = coalesce(?2, holder)",
        (environment, holder),
    )


def _slot(instance: Instance, known: Mapping[int, Volume]) -> int:
    """The instance's own, else the lowest that nobody holds: so the successor of an instance
    finds its data, and as many slots are used as there are instances."""
    for slot, volume in known.items():
        if volume.holder == instance.name:
            return slot
    taken = {slot for slot, volume in known.items() if volume.holder is not None}
    return next(slot for slot in range(1, len(taken) + 2) if slot not in taken)


def _volume(row: tuple[str, str, int, int, str | None, int, int]) -> Volume:
    return Volume(
        environment=row[0],
        name=row[1],
        slot=row[2],
        size_bytes=row[3],
        holder=row[4],
        removing=bool(row[5]),
        made=bool(row[6]),
    )
