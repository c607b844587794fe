"""What the API refuses because the host could never have it, and what it shows of the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vmorch.api.capacity import capacity_check
from vmorch.client import Client
from vmorch.errors import NotFound, Refused
from vmorch.model.guest import GuestState
from vmorch.model.host import BOUNDLESS
from vmorch.model.instance import State
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.planner.look import Look
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot

MIB = 1024**2
SMALL = replace(
    BOUNDLESS,
    cpus=2,
    cpu_overcommit=2.0,
    memory_bytes=2048 * MIB,
    kept_memory_bytes=512 * MIB,
    free_disk_bytes=5000 * MIB,
    kept_disk_bytes=1000 * MIB,
)
"""Room for two instances of `spec` by their memory, four by their CPUs."""


@pytest.fixture
def client(daemon: Any) -> Client:
    daemon.host.seen = SMALL
    return Client(daemon.settings.socket)


@pytest.fixture
def spec(client: Client) -> EnvironmentSpec:
    image = client.ensure_image("debian:12", lambda _: None)
    web = ServiceSpec(name="web", image=image, replicas=2, memory_bytes=700 * MIB)
    return EnvironmentSpec(name="shop", services={"web": web})


def changed(spec: EnvironmentSpec, **values: Any) -> EnvironmentSpec:
    return replace(spec, services={"web": replace(spec.services["web"], **values)})


def test_up_refuses_what_never_fits_and_changes_nothing(
    client: Client, spec: EnvironmentSpec
) -> None:
    client.apply(spec)
    before = client.environment("shop")
    for large in ({"replicas": 3}, {"memory_bytes": 1500 * MIB}, {"cpus": 4.5}):
        with pytest.raises(Refused, match="'shop' never fits into this host") as caught:
            client.apply(changed(spec, **large))
        assert "vmorch daemon status" in caught.value.hint
        with pytest.raises(Refused, match="never fits"):
            client.preview(changed(spec, **large))
    assert client.environment("shop") == before


def test_a_partial_up_counts_what_stays(client: Client, spec: EnvironmentSpec) -> None:
    client.apply(spec)
    another = replace(spec.services["web"], name="db", replicas=1)
    part = EnvironmentSpec(name="shop", services={"db": another})
    with pytest.raises(Refused, match="its 3 instances together need"):
        client.apply(part, partial=True)
    assert list(client.environment("shop").services) == ["web"]


def test_scale_refuses_growth_only(client: Client, daemon: Any, spec: EnvironmentSpec) -> None:
    client.apply(spec)
    with pytest.raises(Refused, match="its 3 instances together need"):
        client.scale("shop", {"web": 3})
    with pytest.raises(Refused, match="its 3 instances together need"):
        client.preview_scale("shop", {"web": 3})
    assert client.environment("shop").services["web"].replicas == 2
    with pytest.raises(NotFound):
        client.scale("shop", {"nope": 9})
    daemon.host.seen = BOUNDLESS
    client.scale("shop", {"web": 5})
    daemon.host.seen = SMALL
    assert client.scale("shop", {"web": 4}).services["web"].replicas == 4


def test_a_reservation_makes_room(client: Client, spec: EnvironmentSpec) -> None:
    frugal = changed(spec, replicas=4, reserved_memory_bytes=200 * MIB)
    assert client.apply(frugal).services["web"].replicas == 4


def look_at(daemon: Any, client: Client, spec: EnvironmentSpec) -> Look:
    client.apply(spec)
    rows = daemon.do(daemon.store.instances("shop"))
    while len(rows) < 2:
        rows = daemon.do(daemon.store.instances("shop"))
    seen = EnvironmentView(
        name="shop",
        removing=False,
        services=dict(spec.services),
        current={"web": 1},
        instances=tuple(
            InstanceView(instance=row, spec=spec.services["web"], guest=GuestState.RUNNING)
            for row in rows
            if row.state is State.READY
        ),
        network_ready=True,
        in_proxy=True,
    )
    return Look(snapshot=Snapshot(environments=(seen,), host=SMALL), at=1.0)


def test_what_is_reserved_and_what_is_free(
    client: Client, daemon: Any, spec: EnvironmentSpec
) -> None:
    assert client.capacity().instances == 0
    daemon.look = look_at(daemon, client, spec)
    shown = client.capacity()
    assert (shown.instances, shown.cpus_for_instances) == (2, 4.0)
    assert (shown.cpus_reserved, shown.cpus_free) == (2.0, 2.0)
    assert shown.memory_reserved_bytes > 1400 * MIB
    assert shown.memory_free_bytes + shown.memory_reserved_bytes == 1536 * MIB
    assert shown.memory_kept_bytes == 512 * MIB
    assert (shown.disk_left_bytes, shown.disk_free_bytes) == (5000 * MIB, 4000 * MIB)


def test_doctor_says_when_nobody_can_be_taken(
    client: Client, daemon: Any, spec: EnvironmentSpec
) -> None:
    look = look_at(daemon, client, spec)
    well = capacity_check(SMALL, look)
    assert well.ok
    assert "2 instances reserve 1.46 GiB of 1.5 GiB and 2 of 4 CPUs" in well.message
    shrunk = replace(SMALL, memory_bytes=1024 * MIB, free_disk_bytes=0)
    ill = capacity_check(shrunk, look)
    assert not ill.ok
    assert "for want of memory and disk" in ill.hint


def test_the_command_line_shows_it_and_ends_with_7(
    client: Client, daemon: Any, spec: EnvironmentSpec, run: Any
) -> None:
    daemon.look = look_at(daemon, client, spec)
    code, out, _ = run("daemon", "status")
    assert code == 0
    table = [line.split() for line in out.splitlines()[1:]]
    assert table[0] == ["HOST", "KEPT", "RESERVED", "FREE"]
    assert table[1][:3] == ["memory", "2G", "512M"]
    assert table[2] == ["CPUs", "2", "x", "2", "-", "2", "2"]
    assert table[3] == ["disk", "4.9G", "1000M", "-", "3.9G"]
    code, out, _ = run("daemon", "status", "-o", "json")
    assert '"memory_kept_bytes": 536870912' in out
    code, _, err = run("scale", "-p", "shop", "web=3")
    assert code == 7
    assert "its 3 instances together need" in err
