"""The database's tables, and the steps from each version of them to the next.

A document column holds one frozen value as JSON; what is searched for or must be unique has a
column of its own. `user_version` counts the migrations that were applied.
"""

from __future__ import annotations

import sqlite3

from vmorch.errors import StoreError

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE environments (
        name TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        network_index INTEGER NOT NULL UNIQUE,
        document TEXT NOT NULL
    );
    CREATE TABLE revisions (
        environment TEXT NOT NULL REFERENCES environments(name) ON DELETE CASCADE,
        service TEXT NOT NULL,
        number INTEGER NOT NULL,
        document TEXT NOT NULL,
        PRIMARY KEY (environment, service, number)
    );
    CREATE TABLE service_addresses (
        environment TEXT NOT NULL REFERENCES environments(name) ON DELETE CASCADE,
        service TEXT NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (environment, service),
        UNIQUE (environment, position)
    );
    CREATE TABLE ordinals (
        environment TEXT NOT NULL REFERENCES environments(name) ON DELETE CASCADE,
        service TEXT NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (environment, service)
    );
    CREATE TABLE instances (
        environment TEXT NOT NULL REFERENCES environments(name) ON DELETE CASCADE,
        service TEXT NOT NULL,
        ordinal INTEGER NOT NULL,
        host_number INTEGER NOT NULL,
        document TEXT NOT NULL,
        PRIMARY KEY (environment, service, ordinal),
        UNIQUE (environment, host_number)
    );
    CREATE TABLE quarantine (
        environment TEXT NOT NULL REFERENCES environments(name) ON DELETE CASCADE,
        host_number INTEGER NOT NULL,
        released_at REAL NOT NULL,
        PRIMARY KEY (environment, host_number)
    );
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time REAL NOT NULL,
        environment TEXT NOT NULL,
        service TEXT NOT NULL,
        instance TEXT NOT NULL,
        kind TEXT NOT NULL,
        message TEXT NOT NULL
    );
    CREATE INDEX events_by_environment ON events (environment, id);
    """,
    # Not tied to the environment: a guest may turn up after its environment was forgotten.
    """
    CREATE TABLE gone (
        uuid TEXT PRIMARY KEY,
        since REAL NOT NULL
    );
    """,
    # Volumes outlive their environment, and find it again by its name.
    """
    CREATE TABLE volumes (
        environment TEXT NOT NULL,
        name TEXT NOT NULL,
        slot INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL,
        holder TEXT,
        removing INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (environment, name, slot)
    );
    CREATE TABLE contents (
        environment TEXT NOT NULL REFERENCES environments(name) ON DELETE CASCADE,
        digest TEXT NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (environment, digest)
    );
    """,
    # Of an older volume it is written down when its file is next seen.
    """
    ALTER TABLE volumes ADD COLUMN made INTEGER NOT NULL DEFAULT 0;
    """,
    # A service from before has none until its revision changes.
    """
    CREATE TABLE rollouts (
        environment TEXT NOT NULL REFERENCES environments(name) ON DELETE CASCADE,
        service TEXT NOT NULL,
        number INTEGER NOT NULL,
        document TEXT NOT NULL,
        PRIMARY KEY (environment, service, number)
    );
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to this version, each step in one transaction.

    Raises:
        StoreError: a newer vmorch wrote this database.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreError(
            f"The database has format {version}; this vmorch knows formats up to "
            f"{len(MIGRATIONS)}.",
            hint="Run the newer vmorch that wrote it, or choose another state directory.",
        )
    for number in range(version, len(MIGRATIONS)):
        connection.executescript(
            f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
        )
