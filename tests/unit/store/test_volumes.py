"""Volumes outlive their environment and have one holder; contents are kept apart."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from vmorch.errors import NotFound, Refused
from vmorch.model.instance import Instance
from vmorch.model.names import Installation
from vmorch.model.spec import (
    DeclaredFile,
    EnvironmentSpec,
    GrantedFile,
    ServiceSpec,
    VolumeMount,
    VolumeSpec,
)
from vmorch.store.sqlite import SqliteStore

DATA = VolumeMount(source="data", target="/srv")
OWN = VolumeMount(source="data", target="/srv", per_instance=True)
SECRET = b"\xffhunter2"
DIGEST = "sha256:" + hashlib.sha256(SECRET).hexdigest()


def spec(mount: VolumeMount = DATA, **changes: Any) -> EnvironmentSpec:
    db = ServiceSpec(name="db", image="sha256:1", volumes=(mount,), **changes)
    return EnvironmentSpec(name="shop", services={"db": db}, volumes={"data": VolumeSpec()})


def opened(path: Path | str = ":memory:") -> SqliteStore:
    return SqliteStore(
        path, Installation("ab" * 16), outer_pool="10.9.0.0/16", inner_subnet="10.8.0.0/24"
    )


def with_store(work: Callable[[SqliteStore], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        store = opened()
        await work(store)
        await store.close()

    asyncio.run(run())


async def created(store: SqliteStore, number: int = 1) -> Instance:
    uuid = f"00000000-0000-4000-8000-{number:012d}"
    return await store.create_instance("shop", "db", 1, uuid=uuid, now=1.0)


async def deleted(store: SqliteStore, instance: Instance) -> None:
    await store.delete_instance(*instance.key, now=2.0)


def test_a_volume_belongs_to_one_instance_at_a_time() -> None:
    async def work(store: SqliteStore) -> None:
        await store.apply(spec(), now=1.0)
        first, second = await created(store, 1), await created(store, 2)
        held = await store.claim_volumes(first, [DATA], {"data": 5})
        assert await store.claim_volumes(first, [DATA], {"data": 5}) == held
        with pytest.raises(Refused, match="db-1"):
            await store.claim_volumes(second, [DATA], {"data": 5})
        await deleted(store, first)
        (again,) = await store.claim_volumes(second, [DATA], {"data": 5})
        assert again.label == held[0].label

    with_store(work)


def test_nothing_is_claimed_when_one_of_several_is_taken() -> None:
    async def work(store: SqliteStore) -> None:
        await store.apply(spec(), now=1.0)
        first, second = await created(store, 1), await created(store, 2)
        await store.claim_volumes(first, [DATA], {})
        other = VolumeMount(source="a", target="/a")
        with pytest.raises(Refused):
            await store.claim_volumes(second, [other, DATA], {})
        assert [v.name for v in await store.volumes()] == ["data"]

    with_store(work)


def test_instances_take_the_volumes_of_their_forerunners() -> None:
    async def work(store: SqliteStore) -> None:
        await store.apply(spec(OWN, replicas=2), now=1.0)
        first, second = await created(store, 1), await created(store, 2)
        (one,) = await store.claim_volumes(first, [OWN], {})
        (two,) = await store.claim_volumes(second, [OWN], {})
        assert (one.slot, two.slot) == (1, 2)
        assert one.label != two.label
        await deleted(store, first)
        (taken,) = await store.claim_volumes(await created(store, 3), [OWN], {})
        assert taken.file_name == one.file_name

    with_store(work)


def test_a_volume_that_had_a_file_is_known_as_made_to_its_next_holder() -> None:
    async def work(store: SqliteStore) -> None:
        await store.apply(spec(OWN, replicas=2), now=1.0)
        first, second = await created(store, 1), await created(store, 2)
        (volume,) = await store.claim_volumes(first, [OWN], {})
        (other,) = await store.claim_volumes(second, [OWN], {})
        assert (volume.made, other.made) == (False, False)
        await store.note_made(volume)
        assert [v.made for v in await store.volumes()] == [True, False]
        await deleted(store, first)
        (taken,) = await store.claim_volumes(await created(store, 3), [OWN], {})
        assert (taken.slot, taken.made) == (volume.slot, True)

    with_store(work)


def test_a_volume_never_shrinks() -> None:
    async def work(store: SqliteStore) -> None:
        await store.apply(spec(), now=1.0)
        instance = await created(store)
        sizes = [
            (await store.claim_volumes(instance, [DATA], {"data": size}))[0].size_bytes
            for size in (100, 50, 200)
        ]
        assert sizes == [100, 100, 200]

    with_store(work)


def test_volumes_outlive_their_environment_until_they_are_told_to_go() -> None:
    async def work(store: SqliteStore) -> None:
        await store.apply(spec(), now=1.0)
        instance = await created(store)
        await store.claim_volumes(instance, [DATA], {})
        await store.remove("shop", volumes=False, now=2.0)
        await deleted(store, instance)
        await store.forget("shop")
        (kept,) = await store.volumes("shop")
        assert kept.holder is None
        assert not kept.removing
        await store.remove_volumes("shop")
        (doomed,) = await store.volumes("shop")
        assert doomed.removing
        await store.apply(spec(), now=3.0)
        with pytest.raises(Refused, match="being removed"):
            await store.claim_volumes(await created(store), [DATA], {})
        await store.forget_volume(doomed)
        with pytest.raises(NotFound):
            await store.remove_volumes("shop")

    with_store(work)


def test_scaling_cannot_share_a_volume() -> None:
    async def work(store: SqliteStore) -> None:
        await store.apply(spec(), now=1.0)
        with pytest.raises(Refused, match="one at a time"):
            await store.scale("shop", {"db": 2}, now=2.0)
        await store.scale("shop", {"db": 0}, now=2.0)
        await store.apply(spec(OWN), now=3.0)
        await store.scale("shop", {"db": 2}, now=4.0)

    with_store(work)


def secretive() -> EnvironmentSpec:
    granted = GrantedFile(source="key", target="/run/secrets/key", digest=DIGEST)
    web = ServiceSpec(name="web", image="sha256:1", secrets=(granted,))
    return EnvironmentSpec(
        name="shop",
        services={"web": web},
        secrets={"key": DeclaredFile(digest=DIGEST, file="key")},
        contents={DIGEST: base64.b64encode(SECRET).decode()},
    )


def test_contents_are_kept_apart_from_what_is_shown() -> None:
    async def work(store: SqliteStore) -> None:
        record = await store.apply(secretive(), now=1.0)
        shown = repr((record, await store.environment("shop"), await store.revisions("shop")))
        assert base64.b64encode(SECRET).decode() not in shown
        assert record.spec.contents == {}
        assert await store.contents("shop", {DIGEST}) == {DIGEST: SECRET}
        await store.forget("shop")
        with pytest.raises(NotFound):
            await store.contents("shop", {DIGEST})

    with_store(work)


def test_the_database_is_the_daemon_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "vmorch.db"
    path.touch(mode=0o644)
    store = opened(path)
    asyncio.run(store.apply(secretive(), now=1.0))
    assert {f.stat().st_mode & 0o777 for f in tmp_path.glob("vmorch.db*")} == {0o600}
    asyncio.run(store.close())
