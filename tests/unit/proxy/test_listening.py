"""Where HAProxy listens, and what keeps it from that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vmorch.proxy.listening import (
    listener_name,
    missing,
    overlap,
    read_frontends,
    refuse_meeting,
    stale_namespaces,
)
from vmorch.proxy.place import Place
from vmorch.proxy.protocol import AddressUnavailable, Endpoint, HttpRoute, Listener, ProxyConfig

PLACE = Place(config_dir=Path("/c"), run_dir=Path("/r"), https_port=8443)
OUTER = Listener(address="127.0.0.1", port=9000, namespace=None, backend="a.b.80.tcp")
INNER = Listener(address="10.0.0.2", port=80, namespace="f00-r0", backend="a.b.80.tcp")
CONFIG = ProxyConfig(
    listeners=(OUTER, INNER), routes=(HttpRoute(host="a.localhost", path="/", backend="a.b.80"),)
)
ROUTES = [Endpoint(address="127.0.0.1", port=port) for port in (8080, 8443)]
HELD = {listener_name(item, {"f00-r0": 7}) for item in CONFIG.listeners}


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "*", True),
        ("::1", "*", True),
        ("127.0.0.1", "::", False),
        ("0.0.0.0", "::1", False),
        ("::1", "::", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
    ],
)
def test_addresses_that_cannot_both_be_had(one: str, other: str, together: bool) -> None:
    assert overlap(one, other) is together
    assert overlap(other, one) is together


def test_what_a_worker_listens_on_already_is_not_asked_for() -> None:
    assert missing(CONFIG, PLACE, HELD, {"f00-r0": 7}) == ROUTES
    assert missing(CONFIG, PLACE, HELD, {"f00-r0": 8}) == [*ROUTES, INNER.endpoint]
    assert missing(CONFIG, PLACE, (), {}) == [*ROUTES, OUTER.endpoint, INNER.endpoint]
    assert missing(replace(CONFIG, tls=False), PLACE, HELD, {"f00-r0": 7}) == ROUTES[:1]
    assert missing(replace(CONFIG, routes=()), PLACE, HELD, {"f00-r0": 7}) == []


def test_the_frontends_of_a_worker() -> None:
    told = "# pxname,svname,qcur\nhttp,FRONTEND,,\ntcp:f00-r0.7:10.0.0.2:80,FRONTEND,,\n\n"
    assert read_frontends(told) == {"http", "tcp:f00-r0.7:10.0.0.2:80"}


def test_a_namespace_made_anew_is_known_by_what_the_worker_listens_in() -> None:
    assert stale_namespaces(HELD, {"f00-r0": 7}) == set()
    assert stale_namespaces(HELD, {"f00-r0": 8, "f00-r1": 1}) == {"f00-r0"}
    assert stale_namespaces({"tcp:host:127.0.0.1:80"}, {"host": 1}) == set()


@pytest.mark.parametrize(
    ("address", "port", "meets"),
    [
        ("127.0.0.1", 8080, True),
        ("0.0.0.0", 8443, True),
        ("10.0.0.5", 8080, False),
        ("127.0.0.1", 8081, False),
    ],
)
def test_no_listener_is_where_routes_are_answered(address: str, port: int, meets: bool) -> None:
    config = replace(CONFIG, listeners=(INNER, replace(OUTER, address=address, port=port)))
    refuse_meeting(replace(config, routes=()), PLACE)
    if not meets:
        refuse_meeting(config, PLACE)
        return
    with pytest.raises(AddressUnavailable, match=f"{address}:{port}, where") as caught:
        refuse_meeting(config, PLACE)
    rest = config.without(caught.value.endpoints)
    assert (rest.listeners, rest.routes, rest.tls) == ((INNER,), CONFIG.routes, True)
    refuse_meeting(replace(CONFIG, listeners=(replace(INNER, port=8080),)), PLACE)
