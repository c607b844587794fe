"""The database file: opened, checked, and written in transactions.

Statements run in the caller's thread: each is one short transaction on a local file, and the
simulation needs them to take no real time. WAL with synchronous=FULL makes a commit durable.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vmorch.errors import StoreError
from vmorch.store.schema import migrate

WAY_OUT = (
    "Guests are not touched. 'vmorch daemon restore' goes back to the last good copy; without one, "
    "'vmorch daemon rebuild' makes a new store from the guests that run."
)
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """One connection. `execute` reads, or writes inside `transaction`.

    Raises:
        StoreError: the file is no database of ours, is damaged, or a newer vmorch wrote it; or
            its disk is full. What was begun then has not happened.
    """

    def __init__(self, path: Path | str) -> None:
        self._connection = _opened(path)
        self.close = self._connection.close

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        with _told():
            return self._connection.execute(statement, values)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; no other task runs inside, as nothing in it waits."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            # SQLite has undone it by itself when the disk is full.
            if self._connection.in_transaction:
                self.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if _is_damage(error):
            raise StoreError(f"The database is damaged: {error}.", hint=WAY_OUT) from error
        if not isinstance(error, sqlite3.OperationalError):
            raise  # a constraint, or a mistake of ours
        raise StoreError(
            f"The store could not be written: {error}. Nothing was changed.",
            hint="Is the disk of the state directory full? 'vmorch image prune' frees some.",
            retryable=True,
        ) from error


def _make_private(path: Path | str) -> None:
    """It holds secrets; SQLite gives its journal the same mode."""
    if path == ":memory:":
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _opened(path: Path | str) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        _make_private(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        check(connection, path)  # before the first byte is written
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        migrate(connection)
    except (sqlite3.Error, OSError, StoreError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, StoreError):
            raise
        if isinstance(error, sqlite3.Error) and _is_damage(error):
            raise StoreError(f"The database {path} is damaged: {error}.", hint=WAY_OUT) from error
        raise StoreError(
            f"The database {path} cannot be opened: {error}.",
            hint="Is its disk full, or read-only? Guests are not touched.",
        ) from error
    return connection


def check(connection: sqlite3.Connection, path: Path | str) -> None:
    """Read every page.

    Raises:
        StoreError: one is damaged, or these are another program's tables.
    """
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise StoreError(f"The database {path} is damaged: {verdict}.", hint=WAY_OUT)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (version == 0) != (tables == 0):
        raise StoreError(f"{path} is no database of vmorch.", hint=WAY_OUT)
