"""Published ports and routed host names: never in two environments, kept for a life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from vmorch.errors import Refused
from vmorch.model.names import Installation
from vmorch.model.spec import EnvironmentSpec, Protocol, PublishedPort, Route, ServiceSpec
from vmorch.store.exclusive import CHOSEN_PORTS
from vmorch.store.sqlite import SqliteStore


def opened(
    port_is_free: Callable[[str, int], bool] = lambda address, port: True,
    publish_address: str = "127.0.0.1",
    own_endpoints: Mapping[str, tuple[str, int]] | None = None,
) -> SqliteStore:
    return SqliteStore(
        ":memory:",
        Installation("ab" * 16),
        outer_pool="10.213.0.0/16",
        inner_subnet="10.212.0.0/24",
        port_is_free=port_is_free,
        publish_address=publish_address,
        own_endpoints=own_endpoints or {},
    )


def spec(name: str, *ports: PublishedPort, host: str = "") -> EnvironmentSpec:
    routes = (Route(host=host, port=80),) if host else ()
    web = ServiceSpec(name="web", image="sha256:1", ports=ports, routes=routes)
    return EnvironmentSpec(name=name, services={"web": web})


def port(published: int | None = None, **changes: Any) -> PublishedPort:
    return PublishedPort(**{"target": 80, "published": published, **changes})


def numbers(store: SqliteStore, wanted: EnvironmentSpec) -> list[int | None]:
    record = asyncio.run(store.apply(wanted, now=1.0))
    return [p.published for p in record.spec.services["web"].ports]


def test_a_chosen_port_is_kept_and_never_given_twice() -> None:
    store = opened()
    (first,) = numbers(store, spec("one", port()))
    assert first in CHOSEN_PORTS
    assert numbers(store, spec("one", port())) == [first]
    both = numbers(store, spec("one", port(), port(target=81)))
    assert both[0] == first != both[1]
    others = [numbers(store, spec(f"env{n}", port())) for n in range(20)]
    assert len({first, both[1], *(n for (n,) in others)}) == 22


def test_two_equal_lines_get_two_numbers() -> None:
    store = opened()
    pair = numbers(store, spec("one", port(), port()))
    assert len(set(pair)) == 2
    assert numbers(store, spec("one", port(), port())) == pair


def test_a_port_that_somebody_listens_on_is_not_chosen() -> None:
    busy: set[int] = set()
    store = opened(lambda address, port: port not in busy)
    (first,) = numbers(store, spec("one", port()))
    assert first is not None
    busy.add(first)
    assert numbers(store, spec("one", port())) == [first]  # it is we who listen
    asyncio.run(store.forget("one"))
    assert numbers(store, spec("one", port())) != [first]
    with pytest.raises(Refused, match="No port between"):
        numbers(opened(lambda address, port: False), spec("one", port()))


def test_a_number_that_the_file_fixes_now_is_not_chosen_for_another() -> None:
    store = opened()
    (first,) = numbers(store, spec("one", port()))
    fixed, chosen = numbers(store, spec("one", port(first, target=90), port()))
    assert fixed == first != chosen


@pytest.mark.parametrize(
    ("mine", "theirs", "clash"),
    [
        (port(8000), port(8000), True),
        (port(8000), port(8001), False),
        (port(8000, host_ip="0.0.0.0"), port(8000), True),
        (port(8000), port(8000, host_ip="0.0.0.0"), True),
        (port(8000, host_ip="127.0.0.2"), port(8000), False),
    ],
)
def test_a_fixed_port_of_another_environment_is_refused_by_name(
    mine: PublishedPort, theirs: PublishedPort, clash: bool
) -> None:
    store = opened()
    numbers(store, spec("other", theirs))
    if not clash:
        assert numbers(store, spec("mine", mine)) == [mine.published]
        return
    with pytest.raises(Refused, match=r"Port 8000 .* of the environment 'other'") as caught:
        numbers(store, spec("mine", mine))
    assert "vmorch down -p other" in caught.value.hint
    assert [r.name for r in asyncio.run(store.environments())] == ["other"]


def test_ports_without_an_address_meet_where_the_settings_put_them() -> None:
    own = port(8000, host_ip="10.0.0.5")
    assert numbers(opened(), spec("one", port(8000), own)) == [8000, 8000]
    everywhere = opened(publish_address="0.0.0.0")
    with pytest.raises(Refused, match=r"Port 8000 .* on 0\.0\.0\.0 and by .* on 10\.0\.0\.5"):
        numbers(everywhere, spec("one", port(8000), own))
    numbers(everywhere, spec("other", own))
    with pytest.raises(Refused, match=r"Port 8000 of 0\.0\.0\.0, .* environment 'other'"):
        numbers(everywhere, spec("one", port(8000)))


@pytest.mark.parametrize(
    ("mine", "setting"),
    [
        (port(8080), "http_port"),
        (port(8443, host_ip="0.0.0.0"), "https_port"),
        (port(8080, host_ip="10.0.0.5"), None),
        (port(8081), None),
        (port(8080, protocol=Protocol.UDP), None),
    ],
)
def test_where_routes_are_answered_no_port_can_be_published(
    mine: PublishedPort, setting: str | None
) -> None:
    own = {"http_port": ("127.0.0.1", 8080), "https_port": ("127.0.0.1", 8443)}
    store = opened(own_endpoints=own)
    if setting is None:
        assert numbers(store, spec("one", mine)) == [mine.published]
        return
    with pytest.raises(Refused, match=f"vmorch answers routes .'{setting}'"):
        numbers(store, spec("one", mine))


def test_a_port_of_vmorch_itself_is_not_chosen() -> None:
    (first,) = numbers(opened(), spec("one", port()))
    assert first is not None
    mine = opened(own_endpoints={"http_port": ("127.0.0.1", first)})
    assert numbers(mine, spec("one", port())) != [first]


def test_a_chosen_port_is_free_where_the_settings_put_it_and_belongs_to_no_address() -> None:
    asked = set()

    def is_free(address: str, port: int) -> bool:
        asked.add(address)
        return True

    store = opened(is_free, "10.0.0.5")
    record = asyncio.run(store.apply(spec("one", port()), now=1.0))
    assert asked == {"10.0.0.5"}
    assert [p.host_ip for p in record.spec.services["web"].ports] == [None]


def test_a_routed_host_name_belongs_to_one_environment() -> None:
    store = opened()
    asyncio.run(store.apply(spec("other", host="web.localhost"), now=1.0))
    with pytest.raises(Refused, match=r"web\.localhost.*environment 'other'"):
        asyncio.run(store.apply(spec("mine", host="web.localhost"), now=1.0))
    asyncio.run(store.apply(spec("other", host="web.localhost"), now=2.0))
    asyncio.run(store.remove("other", volumes=False, now=3.0))
    with pytest.raises(Refused) as caught:
        asyncio.run(store.apply(spec("mine", host="web.localhost"), now=1.0))
    assert "being removed" in caught.value.hint


def test_time_and_holder_stay_until_they_are_given_anew() -> None:
    store = opened()
    asyncio.run(store.apply(spec("one"), now=1.0, expires_at=9.0, holder="7:1:b"))
    record = asyncio.run(store.apply(spec("one"), now=2.0))
    assert (record.expires_at, record.holder) == (9.0, "7:1:b")
    record = asyncio.run(store.apply(spec("one"), now=2.0, expires_at=11.0))
    assert (record.expires_at, record.holder) == (11.0, "7:1:b")
