"""When warm snapshots are made: unasked in quiet moments, asked for as soon as a boot may begin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.spec import ServiceSpec, StartMode
from vmorch.planner.actions import StartGuest, WarmUp
from vmorch.planner.plan import plan
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot

NOW = 1000.0
WEB = frozenset({("web", 1)})


def view(ordinal: int, state: State, guest: GuestState | None = None) -> InstanceView:
    ready_at = NOW - 40 if state is State.READY else None
    instance = Instance(
        environment="shop",
        service="web",
        ordinal=ordinal,
        revision=1,
        uuid=f"uuid-{ordinal}",
        mac="52:54:00:00:00:01",
        inner_address="10.0.0.64",
        outer_address="10.1.0.64",
        goal=Goal.RUN,
        state=state,
        reason="",
        created_at=NOW - 100,
        boot=0 if state is State.PENDING else 1,
        started_at=NOW - 50,
        ready_at=ready_at,
        capped=ready_at is not None,
    )
    healthy = True if ready_at else None
    spec = ServiceSpec(name="web", image="sha256:1")
    return InstanceView(instance=instance, spec=spec, guest=guest, healthy=healthy, admitted=True)


READY = view(1, State.READY, GuestState.RUNNING)
BOOTING = view(2, State.RUNNING, GuestState.RUNNING)


def shop(*views: InstanceView, **changes: Any) -> EnvironmentView:
    values: dict[str, Any] = {
        "name": "shop",
        "removing": False,
        "services": {"web": ServiceSpec(name="web", image="sha256:1", replicas=len(views))},
        "current": {"web": 1},
        "instances": views,
        "network_ready": True,
        "in_proxy": True,
    }
    return EnvironmentView(**{**values, **changes})


def warm_ups(*environments: EnvironmentView, **changes: Any) -> list[WarmUp]:
    actions = plan(Snapshot(environments=environments, **changes), NOW).actions
    return [action for action in actions if isinstance(action, WarmUp)]


def test_one_is_made_once_an_instance_is_ready_and_nothing_boots() -> None:
    assert warm_ups(shop(READY)) == []
    (made,) = warm_ups(shop(READY, may_warm=WEB))
    assert (made.environment, made.service, made.revision) == ("shop", "web", 1)
    assert warm_ups(shop(BOOTING, may_warm=WEB)) == []
    assert warm_ups(shop(READY, BOOTING, may_warm=WEB)) == []
    waiting = shop(READY, view(2, State.PENDING), may_warm=WEB)
    assert any(
        isinstance(a, StartGuest) for a in plan(Snapshot(environments=(waiting,)), NOW).actions
    )
    assert warm_ups(waiting) == []


def test_a_wish_waits_for_no_instance_but_for_a_boot_slot() -> None:
    (made,) = warm_ups(shop(wanted_warm=WEB))
    assert "asked" in made.reason
    assert warm_ups(shop(BOOTING, wanted_warm=WEB))
    assert not warm_ups(shop(BOOTING, wanted_warm=WEB), boots_at_once=1)
    assert not warm_ups(shop(BOOTING, view(3, State.PENDING), wanted_warm=WEB), boots_at_once=2)


@pytest.mark.parametrize("changes", [{"removing": True}, {"network_ready": False}])
def test_a_wish_waits_for_what_a_guest_needs(changes: dict[str, bool]) -> None:
    assert warm_ups(shop(wanted_warm=WEB, **changes)) == []


def test_one_at_a_time_and_wishes_come_first() -> None:
    assert warm_ups(shop(READY, wanted_warm=WEB), warming=True) == []
    other = replace(shop(wanted_warm=WEB), name="other")
    (made,) = warm_ups(shop(READY, may_warm=WEB), other)
    assert made.environment == "other"


def test_a_wish_of_another_revision_is_none() -> None:
    assert warm_ups(shop(wanted_warm=frozenset({("web", 2), ("db", 1)}))) == []


def pending(ordinal: int) -> InstanceView:
    return view(ordinal, State.PENDING)


def starts(environment: EnvironmentView, **changes: Any) -> list[tuple[int, bool]]:
    """Ordinals that are started, and whether by a fork."""
    actions = plan(Snapshot(environments=(environment,), **changes), NOW).actions
    return [(a.instance.ordinal, a.fork) for a in actions if isinstance(a, StartGuest)]


def forked(one: InstanceView) -> InstanceView:
    return replace(one, instance=replace(one.instance, start=StartMode.FORK))


def test_forks_wait_for_no_boot_slot_and_are_bounded_by_themselves() -> None:
    booting = [view(n, State.RUNNING, GuestState.RUNNING) for n in (1, 2)]
    coming = [pending(n) for n in (3, 4, 5)]
    found = starts(shop(*booting, *coming, warm=WEB), boots_at_once=2)
    assert found == [(3, True), (4, True)]
    assert starts(shop(*booting, *coming), boots_at_once=2) == []


def test_a_fork_holds_no_slot_once_it_runs() -> None:
    restored = forked(view(1, State.STARTING))
    running = [forked(view(n, State.RUNNING, GuestState.RUNNING)) for n in (2, 3, 4)]
    coming = [pending(n) for n in (5, 6, 7)]
    found = starts(shop(restored, *running, *coming, warm=WEB), boots_at_once=1)
    assert found == [(1, True), (5, True)], "the first of these was interrupted"
    assert starts(shop(*running, *coming), boots_at_once=1) == [(5, False)]
