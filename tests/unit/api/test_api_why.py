"""Why something is as it is, over the API: seen, not seen yet, gone, and never there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from vmorch.client import Client
from vmorch.errors import NotFound
from vmorch.model.event import EventKind
from vmorch.model.instance import State
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.planner.look import Look
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot


@pytest.fixture
def client(daemon: Any) -> Client:
    return Client(daemon.settings.socket)


@pytest.fixture
def up(daemon: Any, client: Client) -> Callable[[], ServiceSpec]:
    def call() -> ServiceSpec:
        image = client.ensure_image("debian:12", lambda _: None)
        web = ServiceSpec(name="web", image=image, replicas=2)
        client.apply(EnvironmentSpec(name="shop", services={"web": web}))
        while len(client.instances("shop")) < 2:
            time.sleep(0.01)
        return web

    return call


def look_at(daemon: Any, web: ServiceSpec, **changes: Any) -> None:
    """As the reconciler would have seen it, with the second instance changed."""
    first, second, *_ = daemon.do(daemon.store.instances("shop"))
    views = [InstanceView(instance=i, spec=web) for i in (first, replace(second, **changes))]
    shop = EnvironmentView(
        name="shop",
        removing=False,
        services={"web": web},
        current={"web": 1},
        instances=tuple(views),
        network_ready=True,
        in_proxy=True,
    )
    daemon.look = Look(snapshot=Snapshot(environments=(shop,)), at=time.time())


def test_an_instance_is_explained_from_the_last_look_and_its_events(
    daemon: Any, client: Client, up: Callable[[], ServiceSpec]
) -> None:
    look_at(
        daemon,
        up(),
        state=State.PENDING,
        boot=2,
        failures=3,
        not_before=time.time() + 100,
        reason="QEMU died; restart 3 in 4 s",
    )
    found = client.why("shop", "web-2")
    assert (found.environment, found.subject, found.state) == ("shop", "web-2", "pending")
    assert found.waits[0].startswith("restart 3 in 1 min 40 s (0 s already waited), after: QEMU")
    (step,) = found.steps
    assert step.what == "its guest is booted (boot 3)"
    assert 95 < step.at - found.asked_at <= 100
    assert [(e.kind, e.instance) for e in found.events] == [("instance-ready", "web-2")]


def test_a_service_is_explained_with_the_last_order_however_long_ago(
    daemon: Any, client: Client, up: Callable[[], ServiceSpec]
) -> None:
    web = up()
    client.scale("shop", {"web": 3})
    for n in range(30):
        daemon.do(
            daemon.store.add_event(
                EventKind.INSTANCE_UNREADY,
                f"HTTP {n}",
                now=time.time(),
                environment="shop",
                service="web",
                instance="web-1",
            )
        )
    look_at(daemon, web)
    found = client.why("shop", "web")
    assert found.summary == "web has 2 of 2 instances ready, revision 1"
    assert found.state == "ready"
    assert "Scaled from 2 to 3 by hand, 0 s ago" in found.notes
    assert [event.message for event in found.events] == [f"HTTP {n}" for n in range(20, 30)]


def test_before_the_first_look_the_memory_is_told(
    client: Client, up: Callable[[], ServiceSpec]
) -> None:
    up()
    found = client.why("shop", "web-1")
    assert (found.summary, found.state) == ("web-1 is ready: because", "ready")
    assert found.waits == ["waiting for the daemon's next look at it"]
    assert client.why("shop", "web").summary == "web is not ready"


def test_what_is_gone_is_explained_by_its_events(
    daemon: Any, client: Client, up: Callable[[], ServiceSpec]
) -> None:
    web = up()
    look_at(daemon, web)
    daemon.do(
        daemon.store.add_event(
            EventKind.INSTANCE_REMOVED,
            "scaled to 2",
            now=time.time() - 20,
            environment="shop",
            service="web",
            instance="web-7",
        )
    )
    found = client.why("shop", "web-7")
    assert found.state == "gone"
    assert "instance-removed 20 s ago: scaled to 2" in found.summary
    # The environment's end ends no explanation, whatever a look of before it says.
    client.remove("shop")
    while client.environments():
        time.sleep(0.01)
    assert client.why("shop", "web-1").state == "gone"


def test_what_never_was_is_not_found_with_a_guess(
    client: Client, up: Callable[[], ServiceSpec]
) -> None:
    up()
    with pytest.raises(NotFound, match=r"'web-22', nor had one\. Did you mean 'web-2'\?") as caught:
        client.why("shop", "web-22")
    assert caught.value.hint == "There are: web, web-1, web-2."
    with pytest.raises(NotFound, match="no environment 'nope'"):
        client.why("nope", "web")
