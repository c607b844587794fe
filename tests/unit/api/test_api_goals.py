"""Goals for instances, parts of a spec, previews, and when an environment ends by itself."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import pytest

from vmorch.client import Client
from vmorch.effects import SystemProcesses
from vmorch.errors import NotFound, Refused, UsageError
from vmorch.model.instance import Goal, State
from vmorch.model.spec import (
    DependencyCondition,
    EnvironmentSpec,
    PublishedPort,
    Route,
    ServiceSpec,
    VolumeMount,
    VolumeSpec,
)


@pytest.fixture
def client(daemon: Any) -> Client:
    return Client(daemon.settings.socket)


@pytest.fixture
def spec(client: Client) -> EnvironmentSpec:
    image = client.ensure_image("debian:12", lambda _: None)
    db = ServiceSpec(name="db", image=image)
    web = ServiceSpec(
        name="web",
        image=image,
        ports=(PublishedPort(target=80, published=None),),
        routes=(Route(host="web.localhost", port=80),),
        depends_on={"db": DependencyCondition.STARTED},
        replicas=2,
    )
    return EnvironmentSpec(name="shop", services={"web": web, "db": db})


def changed(spec: EnvironmentSpec, **values: Any) -> EnvironmentSpec:
    services = {**spec.services, "web": replace(spec.services["web"], **values)}
    return replace(spec, services=services)


def up(client: Client, spec: EnvironmentSpec) -> None:
    client.apply(spec)
    for _ in range(200):
        if len(client.instances(spec.name)) == 3:
            return
    raise AssertionError


def goals(daemon: Any) -> dict[str, Goal]:
    return {i.name: i.goal for i in daemon.do(daemon.store.instances("shop"))}


def steps(client: Client, spec: EnvironmentSpec, **how: Any) -> list[tuple[str, str]]:
    return [(step.action, step.subject) for step in client.preview(spec, **how)]


def test_goals_of_all_of_a_service_and_of_one(
    daemon: Any, client: Client, spec: EnvironmentSpec
) -> None:
    up(client, spec)
    daemon.converges = False
    rows = client.set_goal("shop", "stop", ["web-2", "db"])
    assert sorted(row.instance for row in rows) == ["db-1", "web-2"]
    assert goals(daemon) == {"db-1": Goal.STOP, "web-1": Goal.RUN, "web-2": Goal.STOP}
    client.set_goal("shop", "pause", ["web"])
    assert goals(daemon) == {"db-1": Goal.STOP, "web-1": Goal.PAUSE, "web-2": Goal.PAUSE}
    client.set_goal("shop", "sleep", ["db"])
    assert goals(daemon)["db-1"] is Goal.SLEEP
    client.set_goal("shop", "run")
    assert set(goals(daemon).values()) == {Goal.RUN}


def test_a_wrong_name_changes_nothing(daemon: Any, client: Client, spec: EnvironmentSpec) -> None:
    up(client, spec)
    with pytest.raises(NotFound, match="'wbe'") as caught:
        client.set_goal("shop", "stop", ["web", "wbe"])
    assert "web-1" in caught.value.hint
    assert set(goals(daemon).values()) == {Goal.RUN}
    with pytest.raises(NotFound):
        client.set_goal("nope", "stop")
    with pytest.raises(UsageError):
        client.set_goal("shop", "remove")


def test_applying_again_starts_what_was_stopped(
    daemon: Any, client: Client, spec: EnvironmentSpec
) -> None:
    up(client, spec)
    client.set_goal("shop", "stop", ["web-1"])
    client.apply(spec)
    assert set(goals(daemon).values()) == {Goal.RUN}


def test_a_part_leaves_the_rest_as_it_is(client: Client, spec: EnvironmentSpec) -> None:
    alone = replace(spec, services={"db": spec.services["db"]})
    assert list(client.apply(alone, partial=True).services) == ["db"]
    client.apply(spec)
    other = replace(alone, services={"db": replace(spec.services["db"], cpus=2.0)})
    view = client.apply(other, partial=True)
    assert {name: s.revision for name, s in view.services.items()} == {"db": 2, "web": 1}
    assert list(client.apply(alone).services) == ["db"]


def test_a_preview_tells_what_why_and_in_which_order(
    daemon: Any, client: Client, spec: EnvironmentSpec
) -> None:
    assert steps(client, spec) == [("create", "shop"), ("create", "db"), ("create", "web")]
    with pytest.raises(NotFound):
        client.environment("shop")
    up(client, spec)
    assert steps(client, spec) == [("keep", "db"), ("keep", "web")]
    other = changed(spec, memory_bytes=1 << 30, environment={"A": "secret-value"}, replicas=3)
    (_, step, way) = client.preview(other)
    assert (way.action, way.subject) == ("rollout", "web")
    assert way.reason.startswith("1 at once; a successor is ready first and is watched for 5 s")
    assert (step.action, step.subject) == ("replace", "web")
    assert "environment, memory_bytes changed: 3 instances anew for web-1, web-2" in step.reason
    assert "secret-value" not in step.reason
    assert steps(client, changed(spec, replicas=3))[1] == ("create", "web")
    assert steps(client, changed(spec, replicas=1))[1] == ("remove", "web-2")
    assert steps(client, changed(spec, labels={"a": "b"}))[1] == ("change", "web")
    alone = replace(spec, services={"db": spec.services["db"]})
    assert steps(client, alone) == [("keep", "db"), ("remove", "web-1"), ("remove", "web-2")]
    assert steps(client, alone, partial=True) == [("keep", "db"), ("keep", "web")]
    client.set_goal("shop", "stop", ["db"])
    assert ("start", "db-1") in steps(client, spec)
    client.set_goal("shop", "sleep", ["web-1"])
    assert ("start", "web-1") in steps(client, spec)
    assert client.environment("shop").version == 1


def test_a_preview_refuses_a_port_where_routes_are_answered(
    client: Client, spec: EnvironmentSpec
) -> None:
    ports = (PublishedPort(target=80, published=8080),)
    with pytest.raises(Refused, match="'http_port'"):
        client.preview(changed(spec, ports=ports))


def test_a_preview_of_scaling_names_who_goes_and_changes_nothing(
    daemon: Any, client: Client, spec: EnvironmentSpec
) -> None:
    mount = VolumeMount(source="data", target="/data", per_instance=True)
    services = {**spec.services, "web": replace(spec.services["web"], volumes=(mount,))}
    up(client, replace(spec, services=services, volumes={"data": VolumeSpec()}))
    daemon.converges = False

    def told(**replicas: int) -> list[tuple[str, str, str]]:
        rows = client.preview_scale("shop", replicas)
        return [(row.action, row.subject, row.reason) for row in rows]

    assert told(web=4, db=2) == [
        ("create", "db", "1 instance more: 1 of 2 are there"),
        ("create", "web", "2 instances more: 2 of 4 are there, after 'db' (service_started)"),
    ]
    going = told(db=0, web=0)
    assert [row[1] for row in going] == ["web-2", "web-1", "volume data", "db-1"]
    assert going[0][2].startswith("scaled to 0; its sessions, and then its service, have 10 s")
    # Who is not ready goes first, however old.
    first = next(i for i in daemon.do(daemon.store.instances("shop")) if i.name == "web-1")
    daemon.do(daemon.store.put_instance(replace(first, state=State.RUNNING)))
    assert told(web=1)[0][:2] == ("remove", "web-1")
    assert told(web=2) == [("keep", "web", "it has 2 instances already")]
    assert client.environment("shop").version == 1


def test_a_preview_of_scaling_refuses_what_scaling_refuses(
    client: Client, spec: EnvironmentSpec
) -> None:
    mount = VolumeMount(source="data", target="/data")
    services = {**spec.services, "db": replace(spec.services["db"], volumes=(mount,))}
    up(client, replace(spec, services=services, volumes={"data": VolumeSpec()}))
    for call in (client.preview_scale, client.scale):
        with pytest.raises(NotFound, match="'nope'"):
            call("shop", {"nope": 1})
        with pytest.raises(NotFound):
            call("nope", {"web": 1})
        with pytest.raises(Refused, match="its volume 'data' is for one at a time"):
            call("shop", {"db": 2})
        with pytest.raises(UsageError):
            call("shop", {"db": -1})


def test_a_preview_tells_what_becomes_of_volumes(
    daemon: Any, client: Client, spec: EnvironmentSpec
) -> None:
    mount = VolumeMount(source="data", target="/data")
    db = replace(spec.services["db"], volumes=(mount,))
    shop = replace(
        spec, services={**spec.services, "db": db}, volumes={"data": VolumeSpec(size_bytes=3 << 30)}
    )
    (_, made, *_) = client.preview(shop)
    assert (made.action, made.subject) == ("create", "volume data")
    assert made.reason.startswith("of at most 3 GiB")
    up(client, shop)
    other = replace(shop, services={**shop.services, "db": replace(db, cpus=2.0)})
    assert steps(client, other)[:2] == [("replace", "db"), ("rollout", "db")]
    assert ("keep", "volume data") in steps(client, other)
    alone = replace(shop, services={"web": replace(spec.services["web"], depends_on={})})
    assert steps(client, alone)[-2:] == [("remove", "db-1"), ("keep", "volume data")]
    instance = next(i for i in daemon.do(daemon.store.instances("shop")) if i.service == "db")
    daemon.do(daemon.store.claim_volumes(instance, [mount], {"data": 3 << 30}))
    client.remove("shop")
    while client.environments():
        time.sleep(0.01)
    (_, kept, *_) = client.preview(shop)
    assert (kept.action, kept.reason) == ("keep", "it was left by 'vmorch down', with its data")


def test_a_preview_of_removal_is_in_reverse_order(client: Client, spec: EnvironmentSpec) -> None:
    up(client, spec)
    found = [step.subject for step in client.preview_removal("shop")]
    assert found == ["web-1", "web-2", "db-1", "shop"]
    assert len(client.instances("shop")) == 3
    with pytest.raises(NotFound):
        client.preview_removal("nope")


def test_a_conflict_is_told_before_anything_is_done(client: Client, spec: EnvironmentSpec) -> None:
    client.apply(spec)
    for call in (client.preview, client.apply):
        with pytest.raises(Refused, match="environment 'shop'"):
            call(replace(spec, name="second"))
    assert [view.name for view in client.environments()] == ["shop"]


def test_the_chosen_port_is_shown_and_kept(client: Client, spec: EnvironmentSpec) -> None:
    (published,) = client.apply(spec).services["web"].published
    address, _, target = published.partition("->")
    assert address.startswith("127.0.0.1:3")
    assert target == "80/tcp"
    assert client.apply(changed(spec, replicas=3)).services["web"].published == [published]


def test_time_and_holder_are_shown_and_forms_are_checked(
    client: Client, spec: EnvironmentSpec
) -> None:
    holder = SystemProcesses().identity(os.getpid())
    view = client.apply(spec, ttl_seconds=60, holder=holder)
    assert view.holder == str(os.getpid())
    assert view.expires_at is not None
    assert 0 < view.expires_at - time.time() <= 60
    for wrong in ({"ttl_seconds": 0}, {"ttl_seconds": -1}, {"holder": "7"}, {"holder": "a:b:c"}):
        with pytest.raises(UsageError):
            client.apply(spec, **wrong)
