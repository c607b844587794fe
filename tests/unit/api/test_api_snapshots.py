"""Warm snapshots over the real HTTP application."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmorch.client import Client
from vmorch.errors import NotFound, Refused, UsageError
from vmorch.model.spec import EnvironmentSpec, ServiceSpec, StartPolicy


@pytest.fixture
def client(daemon: Any) -> Client:
    return Client(daemon.settings.socket)


@pytest.fixture
def web(client: Client) -> ServiceSpec:
    return ServiceSpec(name="web", image=client.ensure_image("debian:12", lambda _: None))


def up(client: Client, name: str, *services: ServiceSpec) -> None:
    client.apply(EnvironmentSpec(name=name, services={s.name: s for s in services}))


def test_a_snapshot_is_listed_with_all_who_share_it(
    daemon: Any, client: Client, web: ServiceSpec
) -> None:
    assert client.snapshots() == []
    up(client, "one", web)
    up(client, "two", replace(web, replicas=2))
    up(client, "other", replace(web, environment={"A": "1"}))
    up(client, "cold", replace(web, start=StartPolicy.COLD))
    key = daemon.do(daemon.warm(web))
    (row,) = client.snapshots()
    assert (row.key, row.service, row.image, row.with_service) == (key, "web", web.image, True)
    assert row.ram_bytes > 0
    assert row.disk_bytes > 0
    uses = [(use.environment, use.service, use.revision, use.current) for use in row.used_by]
    assert uses == [("one", "web", 1, True), ("two", "web", 1, True)]


def test_an_old_revision_uses_it_while_it_has_instances(
    daemon: Any, client: Client, web: ServiceSpec
) -> None:
    up(client, "shop", web)
    daemon.do(daemon.warm(web))
    daemon.converges = False
    up(client, "shop", replace(web, environment={"A": "1"}))
    (use,) = client.snapshots()[0].used_by
    assert (use.revision, use.current) == (1, False)


def test_they_are_removed_by_key_beginning_service_or_all(
    daemon: Any, client: Client, web: ServiceSpec
) -> None:
    specs = [web, replace(web, environment={"A": "1"}), replace(web, name="db")]
    keys = [daemon.do(daemon.warm(spec)) for spec in specs]
    with pytest.raises(NotFound, match="nope"):
        client.remove_snapshots("nope")
    gone = client.remove_snapshots(keys[0][:20])
    assert gone.keys == [keys[0]]
    assert gone.bytes_freed == 12288
    assert daemon.forgone == [keys[0]]
    assert client.remove_snapshots("web").keys == [keys[1]]
    assert client.remove_snapshots().keys == [keys[2]]
    assert client.snapshots() == []
    assert client.remove_snapshots().keys == []


def test_the_beginning_of_several_keys_removes_none(
    daemon: Any, client: Client, web: ServiceSpec
) -> None:
    variants = [replace(web, environment={"A": str(n)}) for n in range(17)]
    keys = [daemon.do(daemon.warm(spec)) for spec in variants]
    twice = next(key[0] for key in keys if sum(key[0] == other[0] for other in keys) > 1)
    with pytest.raises(UsageError, match="begin with"):
        client.remove_snapshots(twice)
    assert len(client.snapshots()) == 17


def test_a_fork_keeps_its_part_of_the_disk_when_its_snapshot_goes(
    daemon: Any, client: Client, web: ServiceSpec, tmp_path: Path
) -> None:
    daemon.do(daemon.warm(web))
    (snapshot,) = daemon.do(daemon.snapshots.all())
    lent = tmp_path / "lent"
    lent.mkdir()
    frozen = daemon.do(daemon.snapshots.lend(snapshot, lent))
    frozen.ram.unlink()
    gone = client.remove_snapshots("web")
    assert frozen.disk.read_bytes() == b"d" * 4096
    assert gone.bytes_freed == snapshot.ram_bytes


def test_a_wish_goes_to_the_reconciler_once(daemon: Any, client: Client, web: ServiceSpec) -> None:
    daemon.converges = False
    up(client, "shop", web)
    asked = client.make_snapshot("shop", "web")
    assert not asked.made
    assert daemon.wishes == [("shop", "web")]
    assert daemon.do(daemon.warm(web)) == asked.key
    assert client.make_snapshot("shop", "web").made
    assert len(daemon.wishes) == 1


def test_a_wish_that_cannot_come_true_is_refused(
    daemon: Any, client: Client, web: ServiceSpec
) -> None:
    daemon.converges = False
    manifest = daemon.images.known[web.image]
    plain = replace(manifest, digest="sha256:" + "7" * 64)
    plain = replace(plain, boot=replace(plain.boot, supports=frozenset()))
    daemon.images.known[plain.digest] = plain
    cold = replace(web, name="cold", start=StartPolicy.COLD)
    up(client, "shop", web, cold, replace(web, name="plain", image=plain.digest))
    with pytest.raises(Refused, match="start: cold"):
        client.make_snapshot("shop", "cold")
    with pytest.raises(Refused, match="no guest agent"):
        client.make_snapshot("shop", "plain")
    with pytest.raises(NotFound, match="no service 'db'"):
        client.make_snapshot("shop", "db")
    with pytest.raises(NotFound):
        client.make_snapshot("nope", "web")
    client.remove("shop")
    with pytest.raises(Refused, match="being removed"):
        client.make_snapshot("shop", "web")
    assert daemon.wishes == []


def test_an_image_takes_its_snapshots_along(daemon: Any, client: Client, web: ServiceSpec) -> None:
    up(client, "shop", web)
    kept = daemon.do(daemon.warm(web))
    other = ServiceSpec(name="db", image=client.ensure_image("tiny", lambda _: None))
    gone = daemon.do(daemon.warm(other))
    with pytest.raises(Refused, match="shop/web"):
        client.remove_image("debian:12")
    freed = client.prune_images()
    assert (freed.images, freed.snapshots) == ([other.image], [gone])
    assert freed.bytes_freed == 1024**2 + 12288
    assert [row.key for row in client.snapshots()] == [kept]
    client.remove("shop")
    assert client.remove_image("debian:12").snapshots == [kept]


def test_the_image_of_an_old_revision_s_fork_stays(
    daemon: Any, client: Client, web: ServiceSpec
) -> None:
    up(client, "shop", web)
    daemon.converges = False
    up(client, "shop", replace(web, image=client.ensure_image("tiny", lambda _: None)))
    with pytest.raises(Refused, match="revision 1 of shop/web"):
        client.remove_image("debian:12")
    assert client.prune_images().images == []
