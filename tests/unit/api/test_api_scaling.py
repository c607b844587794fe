"""Services that scale by themselves: what users may order, and what previews foretell of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vmorch.client import Client
from vmorch.errors import Refused
from vmorch.model.autoscale import AutoscaleSpec
from vmorch.model.host import BOUNDLESS
from vmorch.model.spec import EnvironmentSpec, ServiceSpec

BOUNDS = AutoscaleSpec(min=0, max=4, cpu=0.5, idle_seconds=60)


@pytest.fixture
def client(daemon: Any) -> Client:
    return Client(daemon.settings.socket)


@pytest.fixture
def spec(client: Client) -> EnvironmentSpec:
    image = client.ensure_image("debian:12", lambda _: None)
    web = ServiceSpec(name="web", image=image, expose=(80,), replicas=1, autoscale=BOUNDS)
    return EnvironmentSpec(name="shop", services={"web": web})


def changed(spec: EnvironmentSpec, **values: Any) -> EnvironmentSpec:
    return replace(spec, services={"web": replace(spec.services["web"], **values)})


def steps(rows: list[Any]) -> list[tuple[str, str]]:
    return [(step.action, step.subject) for step in rows]


def scalings(client: Client) -> list[str]:
    events = client.events(environment="shop")
    return [event.message for event in events if event.kind == "service-scaled"]


def there_are(client: Client, count: int) -> None:
    for _ in range(200):
        if len(client.instances("shop")) == count:
            return
    raise AssertionError


def test_the_bounds_are_shown(client: Client, spec: EnvironmentSpec) -> None:
    web = client.apply(spec).services["web"]
    assert (web.replicas, web.min_replicas, web.max_replicas) == (1, 0, 4)
    plain = client.apply(changed(spec, autoscale=None)).services["web"]
    assert (plain.replicas, plain.min_replicas, plain.max_replicas) == (1, None, None)


def test_up_keeps_the_number_and_its_preview_says_so(client: Client, spec: EnvironmentSpec) -> None:
    client.apply(spec)
    client.scale("shop", {"web": 3})
    there_are(client, 3)
    assert steps(client.preview(spec)) == [("keep", "web")]
    assert client.apply(spec).services["web"].replicas == 3
    assert scalings(client) == ["Scaled from 1 to 3 by hand."]
    lower = changed(spec, autoscale=replace(BOUNDS, max=2))
    assert steps(client.preview(lower)) == [("remove", "web-3")]
    assert client.apply(lower).services["web"].replicas == 2


def test_a_number_with_up_is_an_order(client: Client, spec: EnvironmentSpec) -> None:
    client.apply(spec)
    there_are(client, 1)
    two = changed(spec, replicas=2)
    assert steps(client.preview(two, by_hand=["web"])) == [("create", "web")]
    assert client.apply(two, by_hand=["web"]).services["web"].replicas == 2
    for call in (client.preview, client.apply):
        with pytest.raises(Refused, match="from 0 to 4 instances, so it cannot have 5"):
            call(changed(spec, replicas=5), by_hand=["web"])


def test_a_number_beyond_the_bounds_is_refused_also_in_a_preview(
    client: Client, spec: EnvironmentSpec
) -> None:
    client.apply(spec)
    for call in (client.preview_scale, client.scale):
        with pytest.raises(Refused, match="cannot have 5") as caught:
            call("shop", {"web": 5})
        assert "Change 'autoscale' of 'web'" in caught.value.hint
        assert caught.value.exit_code == 7
    assert client.environment("shop").services["web"].replicas == 1


def test_to_sleep_by_hand_and_awake_again(
    daemon: Any, client: Client, spec: EnvironmentSpec
) -> None:
    client.apply(spec)
    there_are(client, 1)
    daemon.converges = False
    assert steps(client.preview_scale("shop", {"web": 0})) == [("sleep", "web")]
    client.scale("shop", {"web": 0})
    assert steps(client.preview(spec)) == [("keep", "web")]
    assert client.apply(spec).services["web"].replicas == 0
    assert steps(client.preview_scale("shop", {"web": 1})) == [("wake", "web")]
    assert [s[0] for s in steps(client.preview_scale("shop", {"web": 2}))] == ["create"]


@pytest.mark.parametrize("names", [["web"], ["web-1"], []])
def test_a_start_wakes_what_would_sleep_again(
    daemon: Any, client: Client, spec: EnvironmentSpec, names: list[str]
) -> None:
    client.apply(spec)
    there_are(client, 1)
    daemon.converges = False
    client.scale("shop", {"web": 0})
    client.set_goal("shop", "stop", names)
    assert client.environment("shop").services["web"].replicas == 0
    client.set_goal("shop", "run", names)
    assert client.environment("shop").services["web"].replicas == 1
    assert scalings(client)[-1] == "Scaled from 0 to 1 by 'start'."
    client.set_goal("shop", "run", names)
    assert len(scalings(client)) == 2


def test_what_the_load_has_added_hinders_no_up(
    daemon: Any, client: Client, spec: EnvironmentSpec
) -> None:
    """More than the host can have waits for room; the file itself is fine."""
    client.apply(changed(spec, replicas=4), by_hand=["web"])
    daemon.host.seen = replace(BOUNDLESS, cpus=2)
    assert client.apply(spec).services["web"].replicas == 4
    with pytest.raises(Refused, match="never fits"):
        client.apply(changed(spec, replicas=4), by_hand=["web"])
