"""Copies of the database, taken while it is in use, and the way back to one.

A copy is made whole under another name, checked, and only then given its own: what lies in the
directory can be restored. The newest few are kept, and of each of the last days the newest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import structlog

from vmorch import durable
from vmorch.effects import Clock
from vmorch.errors import NotFound, Refused, StoreError
from vmorch.store.database import WAY_OUT, check

COPY_SECONDS = 20.0
"""Between two copies: what a damaged database costs at most."""
NEWEST_KEPT = 5
DAYS_KEPT = 7
_PREFIX = "vmorch-"

log = structlog.get_logger("vmorch.store")


class Backups:
    """Copies of `database` in `directory`. Its calls block; one thread at a time."""

    def __init__(self, database: Path, directory: Path) -> None:
        self._database = database
        self._directory = directory
        self._seen: int | None = None
        self._watching: sqlite3.Connection | None = None

    def changed(self) -> bool:
        """Whether there is something that the last copy of this process does not have."""
        return self._version() != self._seen

    def take(self, now: float) -> Path:
        """Copy the database. `now` names the copy.

        Raises:
            StoreError: it cannot be written, or what was read is damaged; older copies stay.
        """
        seen = self._version()
        name = datetime.fromtimestamp(now, UTC).strftime(f"{_PREFIX}%Y%m%dT%H%M%SZ.db")
        draft, target = self._directory / "new.tmp", self._directory / name
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            _copy(self._database, draft)
            draft.rename(target)
            durable.sync(self._directory)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"The database could not be copied to {target}: {error}.",
                hint="Is the disk of the state directory full?",
                retryable=True,
            ) from error
        finally:
            draft.unlink(missing_ok=True)
        self._seen = seen
        for old in expendable(copies(self._directory)):
            old.unlink(missing_ok=True)
        return target

    def close(self) -> None:
        if self._watching is not None:
            self._watching.close()

    def _version(self) -> int:
        """Counts what other connections have committed (PRAGMA data_version)."""
        if self._watching is None:
            self._watching = sqlite3.connect(self._database, check_same_thread=False)
        (version,) = self._watching.execute("PRAGMA data_version").fetchone()
        return int(version)


async def keep_copies(backups: Backups, clock: Clock) -> None:
    """Copy the database when it has changed, until cancelled. One that fails is told, and tried
    again."""
    while True:
        try:
            if await asyncio.to_thread(backups.changed):
                await asyncio.to_thread(backups.take, clock.now())
        except StoreError as error:
            log.warning("no copy of the database", error=error.message, hint=error.hint)
        await clock.sleep(COPY_SECONDS)


def copies(directory: Path) -> list[Path]:
    """The newest first."""
    return sorted(directory.glob(f"{_PREFIX}*.db"), reverse=True)


def expendable(found: list[Path]) -> list[Path]:
    """Which of the copies, the newest first, need not be kept."""
    days: dict[str, Path] = {}
    for copy in found:
        days.setdefault(copy.name[len(_PREFIX) :][:8], copy)
    kept = {*found[:NEWEST_KEPT], *list(days.values())[:DAYS_KEPT]}
    return [copy for copy in found if copy not in kept]


def refuse_emptied(database: Path, directory: Path) -> None:
    """A database that is not there or has no bytes would be made anew: a lost one must not be.

    Raises:
        StoreError: there are copies of it, so it has been there.
    """
    if copies(directory) and not (database.exists() and database.stat().st_size):
        raise StoreError(f"The database {database} is gone or empty.", hint=WAY_OUT)


def restore(database: Path, directory: Path, source: Path | None = None) -> Path:
    """Put a copy (None: the newest good one) in the database's place; the copy that was used.
    What was in its place is kept beside it, with `.damaged` at the end. The state directory's
    lock must be held.

    Raises:
        NotFound: there is no copy.
        StoreError: none is good, or it cannot be written.
    """
    found = copies(directory) if source is None else [source]
    if not found or not any(copy.is_file() for copy in found):
        raise NotFound(
            f"There is no copy {source or f'in {directory}'}.",
            hint="'vmorch daemon rebuild' makes a new store from the guests that run.",
        )
    good = next((copy for copy in found if is_good(copy)), None)
    if good is None:
        raise StoreError(
            f"No copy in {directory} is good." if source is None else f"{source} is damaged.",
            hint="'vmorch daemon rebuild' makes a new store from the guests that run.",
        )
    draft = database.with_suffix(".tmp")
    try:
        _copy(good, draft)
        set_aside(database)
        draft.rename(database)
        durable.sync(database.parent)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(
            f"{good} could not be restored: {error}.", hint="Nothing was changed."
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return good


def set_aside(database: Path) -> None:
    """Move the database away, its journal with it: that would be played into the next one."""
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{database}{end}").rename(f"{database}.damaged{end}")


def refuse_loss(database: Path) -> None:
    """Raises Refused: it is a good database that knows environments, so nothing is to rebuild."""
    if not database.exists() or not is_good(database):
        return
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM environments").fetchone()
    if count:
        raise Refused(
            f"The database {database} is good and knows {count} environments.",
            hint="Start the daemon with it; or move it away, if you do want to lose what it knows.",
        )


def is_good(copy: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{copy}?mode=rw", uri=True)) as connection:
            check(connection, copy)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            return bool(version)
    except (sqlite3.Error, StoreError):
        return False


def _copy(source: Path, target: Path) -> None:
    """By SQLite itself: the source may be in use. Private from its first byte on, and durable."""
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as old,
        contextlib.closing(sqlite3.connect(target, isolation_level=None)) as new,
    ):
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")
        check(new, source)
    durable.sync(target)
