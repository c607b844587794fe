"""The store's promises: all or nothing, versions, ordinals and addresses never mixed up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from vmorch.errors import NotFound, Refused, StoreError
from vmorch.model.event import EventKind
from vmorch.model.instance import Goal, State
from vmorch.model.names import Installation
from vmorch.model.spec import EnvironmentSpec, NetworkSpec, ServiceSpec
from vmorch.store.instances import QUARANTINE_SECONDS
from vmorch.store.schema import MIGRATIONS
from vmorch.store.sqlite import SqliteStore

T = TypeVar("T")
UUID = "00000000-0000-4000-8000-000000000001"


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def opened(path: Path | str = ":memory:") -> SqliteStore:
    return SqliteStore(
        path,
        Installation("ab" * 16),
        outer_pool="10.213.0.0/16",
        inner_subnet="10.212.0.0/24",
    )


def spec(name: str = "shop", **services: ServiceSpec) -> EnvironmentSpec:
    return EnvironmentSpec(
        name=name, services=services or {"web": ServiceSpec(name="web", image="sha256:1")}
    )


def web(**changes: Any) -> ServiceSpec:
    return ServiceSpec(**{"name": "web", "image": "sha256:1", **changes})


def test_what_reaches_a_guest_makes_a_revision_and_nothing_else_does() -> None:
    async def story() -> list[int]:
        store = opened()
        numbers = []
        for service in (
            web(),
            web(replicas=4),
            web(labels={"a": "b"}),
            web(environment={"A": "1"}),
            web(environment={"A": "1"}, memory_bytes=1 << 30),
            web(environment={"A": "1"}, memory_bytes=1 << 30),
        ):
            record = await store.apply(spec(web=service), now=1.0)
            numbers.append(record.current["web"])
        assert [r.number for r in await store.revisions("shop")] == [1, 2, 3]
        return numbers

    assert run(story()) == [1, 1, 1, 2, 3, 3]


def test_a_write_on_a_stale_version_is_refused_and_changes_nothing() -> None:
    async def story() -> None:
        store = opened()
        first = await store.apply(spec(), now=1.0, expected_version=0)
        await store.apply(spec(web=web(replicas=2)), now=2.0, expected_version=first.version)
        with pytest.raises(Refused):
            await store.apply(
                spec(web=web(image="sha256:2")), now=3.0, expected_version=first.version
            )
        assert len(await store.revisions("shop")) == 1
        assert (await store.environment("shop")).spec.services["web"].replicas == 2

    run(story())


def test_ordinals_are_never_used_again() -> None:
    async def story() -> list[int]:
        store = opened()
        await store.apply(spec(), now=1.0)
        ordinals = []
        for _ in range(3):
            made = await store.create_instance("shop", "web", 1, uuid=UUID, now=1.0)
            await store.delete_instance("shop", "web", made.ordinal, now=1.0)
            ordinals.append(made.ordinal)
        return ordinals

    assert run(story()) == [1, 2, 3]


def test_an_address_rests_before_it_is_used_again() -> None:
    async def story() -> None:
        store = opened()
        await store.apply(spec(), now=0.0)
        first = await store.create_instance("shop", "web", 1, uuid=UUID, now=0.0)
        await store.delete_instance("shop", "web", first.ordinal, now=0.0)
        seen = set()
        for _ in range(190):
            made = await store.create_instance("shop", "web", 1, uuid=UUID, now=1.0)
            seen.add(made.inner_address)
        assert len(seen) == 190
        assert first.inner_address not in seen
        with pytest.raises(Refused, match="no free address"):
            await store.create_instance("shop", "web", 1, uuid=UUID, now=1.0)
        late = await store.create_instance("shop", "web", 1, uuid=UUID, now=QUARANTINE_SECONDS + 1)
        assert late.inner_address == first.inner_address

    run(story())


def test_environments_have_networks_and_names_of_their_own() -> None:
    async def story() -> None:
        store = opened()
        records = [await store.apply(spec(name), now=1.0) for name in ("a", "b", "c")]
        assert len({r.network.outer for r in records}) == 3
        assert {r.network.inner for r in records} == {"10.212.0.0/24"}
        await store.forget("b")
        again = await store.apply(spec("d"), now=2.0)
        assert again.network.index == records[1].network.index

    run(story())


def test_a_service_keeps_its_address_while_others_come_and_go() -> None:
    async def story() -> None:
        store = opened()
        db = ServiceSpec(name="db", image="sha256:1")
        await store.apply(spec(db=db, web=web()), now=1.0)
        before = await store.service_addresses("shop")
        await store.apply(spec(web=web(), cache=replace(db, name="cache")), now=2.0)
        after = await store.service_addresses("shop")
        assert after["web"] == before["web"]
        assert set(after) == {"web", "cache"}
        assert len(set(after.values())) == 2

    run(story())


def test_the_subnet_of_a_living_environment_stays() -> None:
    async def story() -> None:
        store = opened()
        await store.apply(spec(), now=1.0)
        moved = replace(spec(), network=NetworkSpec(subnet="10.9.9.0/24"))
        with pytest.raises(Refused, match="subnet"):
            await store.apply(moved, now=2.0)

    run(story())


def test_an_environment_under_removal_takes_no_orders() -> None:
    async def story() -> None:
        store = opened()
        await store.apply(spec(), now=1.0)
        await store.remove("shop", volumes=False, now=2.0)
        with pytest.raises(Refused, match="being removed"):
            await store.apply(spec(), now=3.0)
        with pytest.raises(Refused, match="being removed"):
            await store.scale("shop", {"web": 2}, now=3.0)
        await store.forget("shop")
        assert (await store.apply(spec(), now=4.0)).version == 1

    run(story())


def test_what_is_not_there_is_not_found() -> None:
    async def story() -> None:
        store = opened()
        with pytest.raises(NotFound):
            await store.environment("shop")
        await store.apply(spec(), now=1.0)
        with pytest.raises(NotFound, match="no service 'wbe'"):
            await store.scale("shop", {"wbe": 2}, now=1.0)
        made = await store.create_instance("shop", "web", 1, uuid=UUID, now=1.0)
        await store.delete_instance("shop", "web", 1, now=1.0)
        with pytest.raises(NotFound):
            await store.put_instance(made)

    run(story())


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        store = opened(tmp_path / "db")
        await store.apply(spec(), now=1.0)
        made = await store.create_instance("shop", "web", 1, uuid=UUID, now=1.0)
        await store.put_instance(replace(made, state=State.READY, ready_at=3.5))
        await store.close()
        again = opened(tmp_path / "db")
        (kept,) = await again.instances("shop")
        assert kept == replace(made, state=State.READY, ready_at=3.5)

    run(story())


def test_events_are_told_in_order_and_waited_for() -> None:
    async def story() -> None:
        store = opened()
        waiter = asyncio.create_task(store.wait_for_event(0))
        await asyncio.sleep(0)
        assert not waiter.done()
        for n in range(3):
            await store.add_event(
                EventKind.INSTANCE_READY, str(n), now=float(n), environment="shop"
            )
        await waiter
        seen = await store.events(after=1, environment="shop")
        assert [e.message for e in seen] == ["1", "2"]
        assert await store.events(environment="other") == []

    run(story())


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    run(opened(path).close())
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StoreError, match="format"):
        opened(path)


def test_a_database_of_an_older_version_is_brought_to_this_one(tmp_path: Path) -> None:
    """It holds a volume, of which that version did not write down whether it was made."""
    path = tmp_path / "db"
    with sqlite3.connect(path) as connection:
        for number, migration in enumerate(MIGRATIONS[:3], start=1):
            connection.executescript(f"{migration} PRAGMA user_version = {number};")
        connection.execute(
            "INSERT INTO volumes (environment, name, slot, size_bytes)"
            " VALUES ('shop', 'data', 0, 9)"
        )
    store = opened(path)
    (volume,) = run(store.volumes())
    assert (volume.name, volume.size_bytes, volume.made) == ("data", 9, False)
    run(store.close())


def test_a_damaged_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(StoreError):
        opened(path)
    assert path.read_bytes() == b"this is no database" * 1000


def test_the_result_of_an_action_does_not_undo_an_order_given_meanwhile() -> None:
    async def story() -> list[Goal]:
        store = opened()
        await store.apply(spec(), now=1.0)
        made = await store.create_instance("shop", "web", 1, uuid=UUID, now=1.0)
        goals = []

        async def seen() -> None:
            (now,) = await store.instances("shop")
            goals.append(now.goal)

        await store.set_goal("shop", Goal.STOP)
        await store.put_instance(replace(made, state=State.RUNNING))  # began when it should run
        await seen()
        await store.put_instance(replace(made, goal=Goal.RUN), decides_goal=True)
        await seen()
        await store.put_instance(replace(made, goal=Goal.REMOVE))
        await seen()
        await store.put_instance(replace(made, goal=Goal.STOP), decides_goal=True)
        await seen()
        return goals

    assert run(story()) == [Goal.STOP, Goal.RUN, Goal.REMOVE, Goal.REMOVE]


def test_a_job_that_is_asked_for_again_has_not_ended_yet() -> None:
    async def story() -> list[int | None]:
        store = opened()
        await store.apply(spec(), now=1.0)
        instance = await store.create_instance("shop", "web", 1, uuid=UUID, now=1.0)
        ended = replace(instance, goal=Goal.STOP, state=State.STOPPED, exit_code=0)
        await store.put_instance(ended)
        codes = []
        for goal in (Goal.STOP, Goal.RUN):
            codes += [i.exit_code for i in await store.set_goal("shop", goal)]
        return codes

    assert run(story()) == [0, None]
