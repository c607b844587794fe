"""What a user says about rollouts, over the API: what is written down, told, and refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from vmorch.client import Client
from vmorch.errors import NotFound, Refused, UsageError
from vmorch.model.rollout import Phase, Rollout
from vmorch.model.spec import EnvironmentSpec, ServiceSpec, VolumeMount, VolumeSpec
from vmorch.model.view.stream import EventView


class Shop:
    """One service `web`, which is rolled out whole at revision 1."""

    def __init__(self, daemon: Any) -> None:
        self.daemon = daemon
        self.client = Client(daemon.settings.socket)
        image = self.client.ensure_image("debian:12", lambda _: None)
        self.spec = ServiceSpec(name="web", image=image, replicas=2)
        self.up("one")
        self.complete()

    def up(
        self,
        command: str,
        *,
        canary: int | None = None,
        beside: Mapping[str, str] = MappingProxyType({}),
        **changes: Any,
    ) -> None:
        """With this command, and with services `beside` it with theirs."""
        self.spec = replace(self.spec, command=(command,), **changes)
        volumes = {mount.source: VolumeSpec() for mount in self.spec.volumes}
        others = {name: replace(self.spec, name=name, command=(c,)) for name, c in beside.items()}
        services = {"web": self.spec, **others}
        environment = EnvironmentSpec(name="shop", services=services, volumes=volumes)
        self.client.apply(environment, canary=canary)

    def complete(self) -> None:
        self.put(phase=Phase.COMPLETED, ended_at=time.time())

    def put(self, **changes: Any) -> None:
        was = self.last
        self.daemon.do(self.daemon.store.put_rollout(replace(was, **changes), was=was))

    @property
    def last(self) -> Rollout:
        found: Rollout = self.daemon.do(self.daemon.store.latest_rollout("shop", "web"))
        return found

    @property
    def declared(self) -> tuple[int, ServiceSpec]:
        record = self.daemon.do(self.daemon.store.environment("shop"))
        return record.current["web"], record.spec.services["web"]

    def told(self, kind: str) -> list[EventView]:
        return [e for e in self.client.events(environment="shop", after=0) if e.kind == kind]

    def events(self) -> list[tuple[str, str]]:
        told = self.client.events(environment="shop", after=0)
        kinds = ("rollout", "rolled")
        return [(event.kind, event.message) for event in told if event.kind.startswith(kinds)]


@pytest.fixture
def shop(daemon: Any) -> Shop:
    return Shop(daemon)


def test_a_new_revision_begins_a_rollout_and_says_how_it_goes(shop: Shop) -> None:
    assert shop.events() == []
    shop.up("two")
    found = shop.client.rollout("shop", "web")
    assert (found.number, found.revision, found.previous) == (2, 2, 1)
    assert (found.phase, found.rollback, found.replicas) == ("running", False, 2)
    assert any("0 of 2 replaced" in line for line in found.lines)
    ((kind, message),) = shop.events()
    assert kind == "rollout-begun"
    assert message.startswith("To revision 2: 1 at once; a successor is ready first")


def test_each_new_revision_that_replaces_one_is_told(shop: Shop) -> None:
    """Whichever service of how many it is, and none for a first revision."""
    shop.up("two", beside={"api": "one"})
    shop.up("three", beside={"api": "one"})
    assert [event.service for event in shop.told("rollout-begun")] == ["web", "web"]
    assert [event.service for event in shop.told("revision-created")] == [
        "web",
        "web",
        "api",
        "web",
    ]


def test_a_canary_that_nobody_gets_is_not_told(shop: Shop) -> None:
    """There is nothing beside which it could get a share."""
    shop.put(phase=Phase.RUNNING, ended_at=None)
    shop.up("two", canary=25)
    assert shop.last.canary is None
    assert "of the requests" not in shop.told("rollout-begun")[0].message


def test_what_no_guest_sees_begins_none(shop: Shop) -> None:
    shop.up("one", labels={"a": "b"})
    assert shop.last.number == 1


def test_pause_and_resume(shop: Shop) -> None:
    shop.up("two")
    assert shop.client.steer_rollout("shop", "web", "pause").phase == "paused"
    assert (shop.last.phase, shop.last.reason) == (Phase.PAUSED, "paused by the user")
    with pytest.raises(Refused, match="is paused"):
        shop.client.steer_rollout("shop", "web", "pause")
    shop.put(failed=(7,))
    assert shop.client.steer_rollout("shop", "web", "resume").phase == "running"
    assert (shop.last.failed, shop.last.forgiven) == ((), (7,))
    with pytest.raises(Refused, match="not paused"):
        shop.client.steer_rollout("shop", "web", "resume")
    assert [kind for kind, _ in shop.events()][1:] == ["rollout-paused", "rollout-resumed"]


def test_a_canary_is_promoted_once(shop: Shop) -> None:
    shop.up("two", canary=25)
    assert shop.client.rollout("shop", "web").canary == 25
    assert "25 % of the requests" in shop.events()[0][1]
    assert shop.client.steer_rollout("shop", "web", "promote").canary is None
    with pytest.raises(Refused, match="has no canary"):
        shop.client.steer_rollout("shop", "web", "promote")


def test_a_service_with_volumes_gets_no_canary_and_nothing_changes(shop: Shop) -> None:
    before = shop.declared
    mount = VolumeMount(source="data", target="/data", per_instance=True)
    with pytest.raises(Refused, match="has volumes"):
        shop.up("two", canary=25, volumes=(mount,))
    assert shop.declared == before
    assert shop.last.number == 1


def test_undo_on_the_way_leads_to_the_revision_before(shop: Shop) -> None:
    shop.up("two")
    began = shop.client.undo("shop", "web")
    assert (began.revision, began.rollback, began.phase) == (1, True, "running")
    number, spec = shop.declared
    assert (number, spec.command) == (1, ("one",))
    history = shop.client.rollouts("shop", "web")
    assert [row.phase for row in history] == ["completed", "superseded", "running"]
    assert history[1].reason == "undone by the user"
    assert shop.events()[-1] == ("rolled-back", "back to revision 1: undone")


def test_undo_of_a_whole_rollout_keeps_what_the_host_alone_sees(shop: Shop) -> None:
    shop.up("two", replicas=3)
    shop.complete()
    shop.client.undo("shop", "web")
    number, spec = shop.declared
    assert (number, spec.command, spec.replicas) == (1, ("one",), 3)


def test_undo_to_any_revision(shop: Shop) -> None:
    for command in ("two", "three"):
        shop.up(command)
        shop.complete()
    assert shop.client.undo("shop", "web", 1).revision == 1
    with pytest.raises(Refused, match="at revision 1 already"):
        shop.client.undo("shop", "web", 1)
    with pytest.raises(NotFound, match="no revision 9"):
        shop.client.undo("shop", "web", 9)


def test_there_is_nothing_to_go_back_to_from_the_first(shop: Shop) -> None:
    with pytest.raises(Refused, match="no other revision was rolled out whole"):
        shop.client.undo("shop", "web")


def test_a_preview_of_an_undo_changes_nothing(shop: Shop) -> None:
    shop.up("two")
    before = shop.declared, shop.last
    steps = [(step.action, step.subject) for step in shop.client.preview_undo("shop", "web")]
    assert steps[0] == ("replace", "web")
    assert ("rollout", "web") in steps
    assert (shop.declared, shop.last) == before


def test_the_difference_of_two_revisions(shop: Shop) -> None:
    shop.up("two", cpus=0.5)
    rows = shop.client.differences("shop", "web", None, None)
    assert {row.key: (row.old, row.new) for row in rows} == {
        "command": ('["one"]', '["two"]'),
        "cpus": ("1.0", "0.5"),
    }
    assert shop.client.differences("shop", "web", 2, 2) == []
    (back, _) = shop.client.differences("shop", "web", 2, 1)
    assert (back.old, back.new) == ('["two"]', '["one"]')
    with pytest.raises(NotFound, match="no revision 7"):
        shop.client.differences("shop", "web", 7, 1)


def test_variables_differ_one_by_one(shop: Shop) -> None:
    shop.up("one", environment={"PORT": "80", "HOST": "db", "GONE": "1"})
    shop.up("one", environment={"PORT": "81", "HOST": "db", "NEW": "1"})
    rows = shop.client.differences("shop", "web", 2, 3)
    assert [(row.key, row.old, row.new) for row in rows] == [
        ("environment.GONE", '"1"', None),
        ("environment.NEW", None, '"1"'),
        ("environment.PORT", '"80"', '"81"'),
    ]


def test_what_a_rollback_leaves_alone_is_no_difference(shop: Shop) -> None:
    shop.up("two", replicas=3)
    assert [row.key for row in shop.client.differences("shop", "web", 1, 2)] == ["command"]


def test_the_first_revision_has_none_before_it(shop: Shop) -> None:
    with pytest.raises(NotFound, match="is its first"):
        shop.client.differences("shop", "web", None, None)
    for call in (shop.client.differences, lambda *_: shop.client.undo("shop", "web", 0)):
        with pytest.raises(UsageError):
            call("shop", "web", 0, 1)


def test_the_status_has_each_instance(shop: Shop) -> None:
    shop.up("two")
    shop.daemon.converges = False
    new = shop.daemon.do(shop.daemon.store.create_instance("shop", "web", 2, uuid="n", now=2.0))
    shop.put(passed=(new.ordinal,))
    found = shop.client.rollout("shop", "web")
    assert [(i.instance, i.revision, i.passed) for i in found.instances] == [
        ("web-1", 1, False),
        ("web-2", 1, False),
        (new.name, 2, True),
    ]
    assert found.instances[-1].state == "pending"
    assert shop.client.latest_rollouts("shop") == [found]


def test_a_canary_needs_a_share_of_the_instances(shop: Shop) -> None:
    shop.up("two", canary=50, replicas=4)
    found = shop.client.rollout("shop", "web")
    assert (found.needed, found.canary_passed) == (2, False)
    shop.put(passed=(3,))
    assert not shop.client.rollout("shop", "web").canary_passed
    shop.put(passed=(3, 4))
    assert shop.client.rollout("shop", "web").canary_passed
    assert shop.client.steer_rollout("shop", "web", "promote").needed == 4


def test_an_undo_without_its_image_changes_nothing(shop: Shop) -> None:
    shop.up("two")
    before = shop.declared, shop.last
    shop.daemon.images.known.clear()
    for call in (shop.client.undo, shop.client.preview_undo):
        with pytest.raises(Refused, match="image of revision 1 of 'web' is gone; nothing was"):
            call("shop", "web")
    assert (shop.declared, shop.last) == before


def test_undo_passes_over_what_was_rolled_back(shop: Shop) -> None:
    """From 2, to which a failed 3 was led back, the way back is 1."""
    shop.up("two")
    shop.complete()
    shop.up("three")
    was = shop.last
    failed = replace(was, phase=Phase.FAILED, reason="revision 3 failed", ended_at=1.0)
    store = shop.daemon.store
    shop.daemon.do(store.roll_back(failed, 2, was=was, reason="revision 3 failed", now=1.0))
    shop.complete()
    assert shop.client.undo("shop", "web").revision == 1


def test_an_order_wakes_the_reconciler(shop: Shop) -> None:
    woken: list[str] = []
    shop.up("two", canary=25)

    async def converge() -> None:
        woken.append("woken")

    shop.daemon._converge = converge
    for order in ("pause", "resume", "promote"):
        shop.client.steer_rollout("shop", "web", order)
        shop.daemon.do(asyncio.sleep(0))  # Until then the loop has only promised to look.
        assert woken.pop()
    shop.client.undo("shop", "web")
    shop.daemon.do(asyncio.sleep(0))
    assert woken.pop()


def test_a_scale_preview_in_a_rollout_tells_only_of_scaling(shop: Shop) -> None:
    shop.up("two")
    shop.daemon.converges = False

    def told(count: int) -> list[tuple[str, str]]:
        rows = shop.client.preview_scale("shop", {"web": count})
        return [(row.action, row.reason) for row in rows]

    assert told(2) == [("keep", "it has 2 instances already")], "no successor is counted"
    shop.daemon.do(shop.daemon.store.create_instance("shop", "web", 2, uuid="n", now=2.0))
    assert told(4) == [("create", "1 instance more: 3 of 4 are there")]


def test_unknown_services_and_environments(shop: Shop) -> None:
    with pytest.raises(NotFound, match="no service 'wob'"):
        shop.client.rollout("shop", "wob")
    with pytest.raises(NotFound, match="no environment 'shup'"):
        shop.client.rollouts("shup", "web")
    with pytest.raises(NotFound, match="no service 'wob'"):
        shop.client.steer_rollout("shop", "wob", "pause")
