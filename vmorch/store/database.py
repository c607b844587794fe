"""The database file: opened, checked, and written in transactions.

Statements run in the caller's thread: each is one short transaction on a local file, and the
simulation needs them to take no real time. WAL with synchronous=FULL makes a commit durable.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from vmorch.errors import StoreError
from vmorch.store.schema import migrate


class Database:
    """One connection. `execute` reads, or writes inside `transaction`.

    Raises:
        StoreError: the file is no database of ours, is damaged, or a newer vmorch wrote it.
    """

    def __init__(self, path: Path | str) -> None:
        self._connection = _opened(path)
        self.execute = self._connection.execute
        self.close = self._connection.close

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; no other task runs inside, as nothing in it waits."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK")
            raise
        self._commit()

    def _commit(self) -> None:
        try:
            self.execute("COMMIT")
        except sqlite3.Error as error:
            self.execute("ROLLBACK")
            raise StoreError(
                f"The store could not be written: {error}.",
                hint="Is the disk of the state directory full? Nothing was changed.",
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


def _opened(path: Path | str) -> sqlite3.Connection:
    try:
        _make_private(path)
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
    except (sqlite3.Error, OSError) as error:
        raise StoreError(
            f"The database {path} cannot be opened: {error}.",
            hint="Move it away and restore a copy; running guests are not touched.",
        ) from error
    return connection
