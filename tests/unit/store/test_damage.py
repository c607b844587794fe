"""A damaged or lost database is refused with the way out, and there is one."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from vmorch.errors import NotFound, Refused, StoreError
from vmorch.model.event import EventKind
from vmorch.model.found import FoundGuest
from vmorch.model.instance import Goal, State
from vmorch.model.names import Installation
from vmorch.model.spec import EnvironmentSpec, RestartCondition, ServiceSpec
from vmorch.store.backup import Backups, copies, expendable, refuse_emptied, refuse_loss, restore
from vmorch.store.database import Database
from vmorch.store.rebuild import rebuild
from vmorch.store.schema import MIGRATIONS
from vmorch.store.sqlite import SqliteStore

T = TypeVar("T")
INSTALLATION = Installation("ab" * 16)
NOW = 1_700_000_000.0


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def opened(path: Path) -> SqliteStore:
    return SqliteStore(path, INSTALLATION, outer_pool="10.213.0.0/16", inner_subnet="10.212.0.0/24")


def spec(name: str = "shop", image: str = "sha256:1", **changes: Any) -> EnvironmentSpec:
    return EnvironmentSpec(
        name=name, services={"web": ServiceSpec(name="web", image=image, **changes)}
    )


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """One with enough in it to have many pages, closed and whole."""
    path = tmp_path / "vmorch.db"
    store = opened(path)

    async def fill() -> None:
        await store.apply(spec(), now=NOW)
        for number in range(400):
            await store.add_event(
                EventKind.INSTANCE_READY, "x" * 300, now=NOW + number, environment="shop"
            )
        await store.close()

    run(fill())
    return path


def names(path: Path) -> list[str]:
    store = opened(path)
    try:
        return [record.name for record in run(store.environments())]
    finally:
        run(store.close())


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all " * 1000)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 77])


def zeroed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(4096)
    path.write_bytes(content)


def scribbled(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for page in range(3, len(content) // 4096, 4):
        content[page * 4096 : page * 4096 + 200] = b"\xa5" * 200
    path.write_bytes(content)


def foreign(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")


@pytest.mark.parametrize("harm", [garbage, truncated, zeroed, scribbled, foreign])
def test_damage_is_refused_and_nothing_is_changed(database: Path, harm: Any) -> None:
    harm(database)
    before = database.read_bytes()
    with pytest.raises(StoreError) as caught:
        opened(database)
    assert "vmorch daemon restore" in caught.value.hint
    assert "vmorch daemon rebuild" in caught.value.hint
    assert database.read_bytes() == before


def test_a_newer_format_is_refused_by_its_number(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as newer:
        newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StoreError, match=f"format {len(MIGRATIONS) + 1}") as caught:
        opened(database)
    assert "newer vmorch" in caught.value.hint


def test_a_lost_or_emptied_database_is_not_made_anew(database: Path, tmp_path: Path) -> None:
    directory = tmp_path / "backups"
    refuse_emptied(tmp_path / "fresh.db", directory)  # a first start
    backups = Backups(database, directory)
    backups.take(NOW)
    refuse_emptied(database, directory)
    database.write_bytes(b"")
    with pytest.raises(StoreError, match="gone or empty"):
        refuse_emptied(database, directory)
    database.unlink()
    with pytest.raises(StoreError, match="gone or empty"):
        refuse_emptied(database, directory)


def test_a_copy_is_taken_while_the_database_is_in_use_and_restores_it(
    database: Path, tmp_path: Path
) -> None:
    store = opened(database)
    backups = Backups(database, tmp_path / "backups")
    run(store.apply(spec("second"), now=NOW))
    assert backups.changed()
    copy = backups.take(NOW)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert not backups.changed()
    run(store.apply(spec("third"), now=NOW))
    assert backups.changed()
    run(store.close())
    backups.close()
    garbage(database)
    assert restore(database, tmp_path / "backups") == copy
    assert names(database) == ["second", "shop"]
    assert b"no database at all" in (tmp_path / "vmorch.db.damaged").read_bytes()


def test_a_damaged_database_never_replaces_a_good_copy(database: Path, tmp_path: Path) -> None:
    directory = tmp_path / "backups"
    backups = Backups(database, directory)
    good = backups.take(NOW)
    backups.close()
    scribbled(database)
    with pytest.raises(StoreError):
        Backups(database, directory).take(NOW + 60)
    assert list(directory.iterdir()) == [good]


def test_a_bad_copy_is_passed_over_and_a_named_one_is_not(database: Path, tmp_path: Path) -> None:
    directory = tmp_path / "backups"
    backups = Backups(database, directory)
    older, newer = backups.take(NOW), backups.take(NOW + 60)
    backups.close()
    garbage(newer)
    with pytest.raises(StoreError, match="is damaged"):
        restore(database, directory, newer)
    assert restore(database, directory) == older
    garbage(older)
    with pytest.raises(StoreError, match="No copy"):
        restore(database, directory)
    with pytest.raises(NotFound):
        restore(database, tmp_path / "nowhere")


def test_few_copies_are_kept_and_one_of_each_of_the_last_days() -> None:
    found = [
        Path(f"vmorch-202601{day:02}T{hour:02}0000Z.db")
        for day in range(20, 0, -1)
        for hour in range(23, -1, -1)
    ]
    kept = [copy for copy in found if copy not in expendable(found)]
    assert kept[:5] == found[:5]
    assert [copy.name[7:18] for copy in kept[5:]] == [f"202601{d}T23" for d in range(19, 13, -1)]
    assert copies(Path("/nonexistent")) == []


def test_a_full_disk_is_said_and_undone(database: Path) -> None:
    """SQLite says the same for a limit on pages as for a full file system."""
    own = Database(database)
    (pages,) = own.execute("PRAGMA page_count").fetchone()
    own.execute(f"PRAGMA max_page_count = {pages}")
    before = own.execute("SELECT count(*) FROM events").fetchone()
    with pytest.raises(StoreError, match="could not be written") as caught, own.transaction():
        own.execute("DELETE FROM events WHERE id = 1")
        for _ in range(2000):
            own.execute(
                "INSERT INTO events (time, environment, service, instance, kind, message)"
                " VALUES (0, '', '', '', '', ?)",
                ("y" * 4000,),
            )
    assert caught.value.retryable
    assert "full" in caught.value.hint
    assert own.execute("SELECT count(*) FROM events").fetchone() == before
    own.execute("PRAGMA max_page_count = 100000")
    with own.transaction():
        own.execute("DELETE FROM events WHERE id = 1")
    own.close()


def guest(ordinal: int, **changes: Any) -> FoundGuest:
    values: dict[str, Any] = {
        "environment": "shop",
        "service": "web",
        "ordinal": ordinal,
        "revision": 3,
        "image": "sha256:1",
        "boot": 2,
        "uuid": f"uuid-{ordinal}",
        "network_index": 4,
        "host_number": 60 + ordinal,
        "subnet": "10.212.0.0/24",
        "cpus": 0.5,
        "memory_bytes": 96 << 20,
    }
    return FoundGuest(**{**values, **changes})


@pytest.fixture
def rebuilt(tmp_path: Path) -> SqliteStore:
    path = tmp_path / "rebuilt.db"
    own = Database(path)
    rebuild(
        own,
        [guest(7), guest(9), guest(8, environment="other", network_index=1, subnet="10.9.0.0/24")],
        INSTALLATION,
        outer_pool="10.213.0.0/16",
        inner_subnet="10.212.0.0/24",
        now=NOW,
    )
    own.close()
    return opened(path)


def test_what_runs_is_known_again_where_it_stands(rebuilt: SqliteStore) -> None:
    instances = run(rebuilt.instances("shop"))
    assert [(i.name, i.uuid, i.boot, i.state, i.goal) for i in instances] == [
        ("web-7", "uuid-7", 2, State.RUNNING, Goal.RUN),
        ("web-9", "uuid-9", 2, State.RUNNING, Goal.RUN),
    ]
    assert [i.outer_address for i in instances] == ["10.213.4.67", "10.213.4.69"]
    assert [i.inner_address for i in run(rebuilt.instances("other"))] == ["10.9.0.68"]
    record = run(rebuilt.environment("shop"))
    assert record.spec.services["web"].replicas == 2
    assert record.spec.services["web"].restart.condition is RestartCondition.NONE
    created = run(rebuilt.create_instance("shop", "web", 3, uuid="new", now=NOW))
    assert created.ordinal == 10


def test_the_same_image_adopts_what_was_found_and_another_replaces_it(
    rebuilt: SqliteStore,
) -> None:
    declared = spec(environment={"A": "1"}, replicas=2, cpus=0.5)
    assert run(rebuilt.apply(declared, now=NOW)).current == {"web": 3}
    (revision,) = run(rebuilt.revisions("shop"))
    assert revision.spec.environment == {"A": "1"}
    assert run(rebuilt.apply(declared, now=NOW)).current == {"web": 3}
    assert run(rebuilt.apply(spec(environment={"A": "2"}), now=NOW)).current == {"web": 4}
    with pytest.raises(Exception, match="subnet"):
        run(rebuilt.apply(spec("other"), now=NOW))


def test_a_good_database_is_not_rebuilt_over(database: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="knows 1 environments"):
        refuse_loss(database)
    run(opened(tmp_path / "empty.db").close())
    refuse_loss(tmp_path / "empty.db")
    refuse_loss(tmp_path / "missing.db")
    garbage(database)
    refuse_loss(database)


def test_an_instance_that_is_gone_is_remembered_as_ours(rebuilt: SqliteStore) -> None:
    async def story() -> frozenset[str]:
        await rebuilt.delete_instance("shop", "web", 7, now=NOW)
        await rebuilt.disown(["stranger"], now=NOW)
        await rebuilt.forget("shop")
        return await rebuilt.disowned(["uuid-7", "uuid-9", "stranger", "unknown"])

    assert run(story()) == {"uuid-7", "stranger"}


def test_an_ordinal_that_is_reserved_is_not_given_out(rebuilt: SqliteStore) -> None:
    async def story() -> int:
        await rebuilt.reserve_ordinal("shop", "web", 20)
        await rebuilt.reserve_ordinal("shop", "web", 12)
        await rebuilt.reserve_ordinal("nobody", "web", 5)
        return (await rebuilt.create_instance("shop", "web", 3, uuid="new", now=NOW)).ordinal

    assert run(story()) == 21
