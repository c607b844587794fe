"""What proxy and DNS are told, from records alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vmorch.model.autoscale import AutoscaleSpec
from vmorch.model.instance import EnvironmentNetwork, Goal, Instance, State
from vmorch.model.names import Installation, backend_name, backend_owner
from vmorch.model.spec import (
    EnvironmentSpec,
    HealthCheck,
    HealthKind,
    PublishedPort,
    Route,
    ServiceSpec,
)
from vmorch.proxy.protocol import Mode, ProxyConfig, Treatment
from vmorch.proxy.routes import NO_ROUTE
from vmorch.reconciler.routing import PROXIED, Routed, names, proxy_config
from vmorch.store.protocol import EnvironmentRecord

HERE = Installation("ab" * 16)
NETWORK = EnvironmentNetwork(
    environment="shop",
    index=3,
    inner="10.0.0.0/24",
    outer="10.1.3.0/24",
    link="10.1.254.6/31",
    internal=False,
)


def instance(ordinal: int, state: State, **changes: Any) -> Instance:
    values = {
        "environment": "shop",
        "service": "web",
        "ordinal": ordinal,
        "revision": 1,
        "uuid": "",
        "mac": "",
        "inner_address": f"10.0.0.{63 + ordinal}",
        "outer_address": f"10.1.3.{63 + ordinal}",
        "goal": Goal.RUN,
        "state": state,
        "reason": "",
        "created_at": 0.0,
        "ready_at": 1.0,
    }
    return Instance(**{**values, **changes})


def routed(spec: ServiceSpec, *instances: Instance, removing: bool = False) -> Routed:
    record = EnvironmentRecord(
        name="shop",
        spec=EnvironmentSpec(name="shop", services={spec.name: spec}),
        version=1,
        network=NETWORK,
        current={spec.name: 1},
        created_at=0.0,
        removing=removing,
    )
    return Routed(
        record=record,
        instances=instances,
        service_addresses={spec.name: "10.0.0.2"},
        ports={spec.name: spec.all_ports},
    )


def config_of(environments: list[Routed], publish_address: str = "127.0.0.1") -> ProxyConfig:
    return proxy_config(HERE, environments, publish_address=publish_address)


WEB = ServiceSpec(name="web", image="sha256:1", expose=(80,))


@pytest.mark.parametrize(
    ("goals", "held"),
    [
        ((), True),
        ((Goal.RUN,), True),
        ((Goal.STOP, Goal.RUN), True),
        ((Goal.STOP,), False),  # its user has stopped it: nothing would wake
        ((Goal.SLEEP, Goal.REMOVE), False),
    ],
)
def test_requests_wait_for_who_wakes_when_they_come(goals: tuple[Goal, ...], held: bool) -> None:
    spec = replace(WEB, routes=(Route(host="a.localhost"),))
    idle = replace(spec, autoscale=AutoscaleSpec(min=0, max=2, idle_seconds=60, hold_seconds=9))
    instances = [instance(n, State.SLEEPING, goal=goal) for n, goal in enumerate(goals, start=1)]
    backends = config_of([routed(idle, *instances)]).backends
    assert [b.hold_seconds for b in backends] == [9.0 if held else None] * 2
    assert [b.hold_seconds for b in config_of([routed(spec, *instances)]).backends] == [None] * 2
    leaving = config_of([routed(idle, *instances, removing=True)]).backends
    assert [b.hold_seconds for b in leaving] == [None] * len(leaving)


def test_the_name_of_a_backend_tells_whose_it_is() -> None:
    for mode in Mode:
        for kind in ("", "1", PROXIED):
            name = backend_name("shop", "web-api", 80, mode, kind)
            assert backend_owner(name) == ("shop", "web-api")
    assert backend_owner(NO_ROUTE) is None


@pytest.mark.parametrize(
    ("state", "ready_at", "listed"),
    [
        (State.READY, 1.0, [("web-1", True)]),
        (State.RUNNING, 1.0, [("web-1", False)]),
        (State.DRAINING, 1.0, [("web-1", False)]),
        (State.STOPPING, 1.0, [("web-1", False)]),
        (State.RUNNING, None, []),
        (State.PENDING, 1.0, []),
        (State.FAILED, 1.0, []),
    ],
)
def test_only_the_ready_get_new_connections(
    state: State, ready_at: float | None, listed: list[tuple[str, bool]]
) -> None:
    config = config_of([routed(WEB, instance(1, state, ready_at=ready_at))])
    (backend,) = config.backends
    assert [(server.name, server.admitted) for server in backend.servers] == listed


def test_a_service_listens_on_its_address_inside_the_environment() -> None:
    config = config_of([routed(WEB)])
    (listener,) = config.listeners
    assert (listener.address, listener.port, listener.namespace) == ("10.0.0.2", 80, "ababab-r3")
    assert listener.backend == config.backends[0].name


def test_a_published_port_leads_to_its_target() -> None:
    """On its own address, else on that of the settings."""
    ports = (
        PublishedPort(target=80, published=8081),
        PublishedPort(target=80, published=8082, host_ip="127.0.0.2"),
    )
    spec = replace(WEB, expose=(), ports=ports)
    for of_settings in ("127.0.0.1", "0.0.0.0"):
        config = config_of([routed(spec)], of_settings)
        outer = [entry for entry in config.listeners if entry.namespace is None]
        assert [(e.address, e.port, e.backend) for e in outer] == [
            (of_settings, 8081, "shop.web.80.tcp"),
            ("127.0.0.2", 8082, "shop.web.80.tcp"),
        ]


def test_routes_that_treat_requests_alike_share_a_backend() -> None:
    spec = replace(
        WEB,
        routes=(
            Route(host="a.localhost"),
            Route(host="b.localhost", timeout_seconds=1.0),
            Route(host="c.localhost", headers={"X-B": "1", "X-A": "2"}),
            Route(host="d.localhost", body_bytes=5),
            Route(host="e.localhost", timeout_seconds=1.0),
            Route(host="f.localhost", access_log=True),
        ),
    )
    config = config_of([routed(spec, instance(1, State.READY))])
    assert config.routes[2].headers == (("X-A", "2"), ("X-B", "1"))
    treatments = {b.name: b.treatment for b in config.backends}
    assert len(treatments) == len(config.backends) == 5
    assert treatments["shop.web.80.http"] == treatments["shop.web.80.tcp"] == Treatment()
    led = {route.host[0]: route.backend for route in config.routes}
    assert led["a"] == led["c"] == "shop.web.80.http"
    assert {host: treatments[led[host]] for host in "bdef"} == {
        "b": Treatment(timeout_seconds=1.0),
        "d": Treatment(body_bytes=5),
        "e": Treatment(timeout_seconds=1.0),
        "f": Treatment(logged=True),
    }
    assert all(backend.servers for backend in config.backends)


def test_only_who_asks_for_it_is_told_by_the_proxy_protocol() -> None:
    ports = (
        PublishedPort(target=80, published=8001, send_proxy=True),
        PublishedPort(target=80, published=8002, accept_proxy=True),
    )
    config = config_of([routed(replace(WEB, ports=ports), instance(1, State.READY))])
    told = {(item.port, item.backend, item.accept_proxy) for item in config.listeners}
    assert told == {
        (80, "shop.web.80.tcp", False),
        (8001, "shop.web.80.tcp.proxied", False),
        (8002, "shop.web.80.tcp", True),
    }
    assert {b.name: b.send_proxy for b in config.backends} == {
        "shop.web.80.tcp": False,
        "shop.web.80.tcp.proxied": True,
    }
    assert len({b.servers for b in config.backends}) == 1


def test_under_maintenance_no_server_is_asked_by_that_route() -> None:
    closed = Route(host="b.localhost", maintenance="Later.", timeout_seconds=1.0)
    spec = replace(WEB, routes=(Route(host="a.localhost"), closed))
    config = config_of([routed(spec, instance(1, State.READY))])
    found = {backend.name: backend for backend in config.backends}
    [special] = found.keys() - {"shop.web.80.tcp", "shop.web.80.http"}
    assert special.startswith("shop.web.80.http.")
    assert found[special].treatment == Treatment(maintenance="Later.")
    assert not found[special].servers
    assert found["shop.web.80.http"].servers


def test_what_changes_at_one_route_is_no_change_of_anothers_backend() -> None:
    """The running worker knows backends by their names until it is replaced."""
    upload = Route(host="a.localhost", path="/upload", body_bytes=5)
    before, after = (
        config_of([routed(replace(WEB, routes=(route, upload)), instance(1, State.READY))])
        for route in (Route(host="a.localhost"), Route(host="a.localhost", maintenance="Later."))
    )
    assert before.routes[1] == after.routes[1]
    treatments = [{b.name: b.treatment for b in config.backends} for config in (before, after)]
    for name in treatments[0].keys() & treatments[1].keys():
        assert treatments[0][name] == treatments[1][name]


def test_a_route_has_an_http_backend_of_its_own() -> None:
    spec = replace(WEB, routes=(Route(host="a.localhost"), Route(host="b.localhost", port=81)))
    config = config_of([routed(spec)])
    assert {(r.host, r.backend) for r in config.routes} == {
        ("a.localhost", "shop.web.80.http"),
        ("b.localhost", "shop.web.81.http"),
    }
    modes = {backend.name: backend.mode for backend in config.backends}
    assert modes["shop.web.80.http"] is Mode.HTTP
    assert modes["shop.web.80.tcp"] is Mode.TCP


@pytest.mark.parametrize(
    ("check", "path"),
    [
        (HealthCheck(kind=HealthKind.HTTP, argument=("/ok",)), "/ok"),
        (HealthCheck(kind=HealthKind.HTTP), "/"),
        (HealthCheck(kind=HealthKind.TCP), None),
    ],
)
def test_the_proxy_repeats_a_check_of_the_port(check: HealthCheck, path: str | None) -> None:
    config = config_of([routed(replace(WEB, healthcheck=check))])
    found = config.backends[0].check
    assert found is not None
    assert found.path == path


@pytest.mark.parametrize("kind", [HealthKind.UNIT, HealthKind.CMD, HealthKind.NONE])
def test_the_proxy_has_no_check_where_the_guest_is_asked(kind: HealthKind) -> None:
    config = config_of([routed(replace(WEB, healthcheck=HealthCheck(kind=kind)))])
    assert config.backends[0].check is None


def test_an_environment_under_removal_is_let_go_with_its_last_instance() -> None:
    draining = instance(1, State.DRAINING)
    assert config_of([routed(WEB, draining, removing=True)]).backends
    assert not config_of([routed(WEB, removing=True)]).backends


def test_names_lead_to_the_service_and_to_each_instance() -> None:
    assert names(routed(WEB, instance(1, State.READY), instance(2, State.PENDING))) == {
        "web": ("10.0.0.2",),
        "web-1": ("10.0.0.64",),
        "web-2": ("10.0.0.65",),
    }
