"""A service at no instances that sleeps when idle: its one instance rests, and wakes when asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vmorch.model.autoscale import AutoscaleSpec
from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.rollout import Phase, Rollout
from vmorch.model.spec import DependencyCondition, ServiceSpec
from vmorch.planner.actions import Action, CreateInstance, Note, PutRollout, SleepGuest, WakeGuest
from vmorch.planner.plan import plan
from vmorch.planner.snapshot import EnvironmentView, InstanceView, Snapshot

NOW = 1000.0
IDLE = ServiceSpec(
    name="web",
    image="sha256:1",
    replicas=0,
    autoscale=AutoscaleSpec(min=0, max=3, idle_seconds=60.0),
)
AWAKE = replace(IDLE, replicas=1)
OPEN = Rollout(
    environment="shop",
    service="web",
    number=2,
    revision=1,
    previous=None,
    started_at=NOW - 5,
    phase=Phase.RUNNING,
)


def view(spec: ServiceSpec = IDLE, ordinal: int = 1, **changes: Any) -> InstanceView:
    """A ready instance, but for what is said otherwise."""
    seen = {name: changes.pop(name) for name in InstanceView.__slots__ if name in changes}
    values = {
        "environment": "shop",
        "service": spec.name,
        "ordinal": ordinal,
        "revision": 1,
        "uuid": "",
        "mac": "",
        "inner_address": "",
        "outer_address": "",
        "goal": Goal.RUN,
        "state": State.READY,
        "reason": "",
        "created_at": 0.0,
        "boot": 1,
        "ready_at": NOW - 40,
        "capped": True,
    }
    told = {"guest": GuestState.RUNNING, "healthy": True, **seen}
    return InstanceView(instance=Instance(**{**values, **changes}), spec=spec, **told)


def asleep(spec: ServiceSpec = IDLE, ordinal: int = 1, **changes: Any) -> InstanceView:
    return view(spec, ordinal, state=State.SLEEPING, guest=None, healthy=None, **changes)


def planned(
    *views: InstanceView, spec: ServiceSpec = IDLE, rollout: Rollout | None = None, current: int = 1
) -> list[Action]:
    environment = EnvironmentView(
        name="shop",
        removing=False,
        services={spec.name: spec} | {v.instance.service: v.spec for v in views},
        current={v.instance.service: 1 for v in views} | {spec.name: current},
        instances=views,
        rollouts={spec.name: rollout} if rollout else {},
        network_ready=True,
        in_proxy=True,
    )
    return list(plan(Snapshot(environments=(environment,)), NOW).actions)


def test_the_last_one_is_withheld_then_saved_then_left_alone() -> None:
    [draining] = planned(view())
    assert isinstance(draining, Note)
    assert (draining.instance.state, draining.instance.goal) == (State.DRAINING, Goal.RUN)
    [saving] = planned(view(state=State.DRAINING, deadline=NOW + 2))
    assert isinstance(saving, Note)
    assert saving.instance.saving
    [save] = planned(view(state=State.STOPPING, saving=True, deadline=NOW))
    assert isinstance(save, SleepGuest)
    assert planned(asleep()) == []


def test_of_several_one_is_kept() -> None:
    """The ready one, and not as many as there are."""
    actions = planned(view(), view(ordinal=2, state=State.RUNNING, healthy=False))
    goals = {a.instance.name: a.instance.goal for a in actions if isinstance(a, Note)}
    assert goals == {"web-1": Goal.RUN, "web-2": Goal.REMOVE}


def test_without_an_instance_one_is_made() -> None:
    [create] = planned()
    assert isinstance(create, CreateInstance)


def test_a_session_that_slipped_in_is_waited_for_however_long_it_takes() -> None:
    assert planned(view(state=State.DRAINING, deadline=NOW - 100, sessions=1)) == []


@pytest.mark.parametrize(
    "busy",
    [
        view(state=State.RUNNING, healthy=False),
        view(state=State.STARTING, guest=GuestState.RUNNING, healthy=None),
        view(state=State.STOPPING, fault="hung", deadline=NOW + 5),
    ],
)
def test_one_with_which_something_is_not_well_does_not_begin_to_sleep(busy: InstanceView) -> None:
    assert not any(
        isinstance(a, SleepGuest) or (isinstance(a, Note) and a.instance.state is State.DRAINING)
        for a in planned(busy)
    )


def test_a_rollout_is_over_before_it_sleeps() -> None:
    [passed] = planned(view(), rollout=OPEN)
    assert isinstance(passed, PutRollout)


def test_an_old_one_sleeps_on_while_its_successor_comes_up() -> None:
    actions = planned(asleep(), rollout=replace(OPEN, revision=2, previous=1), current=2)
    assert not any(isinstance(a, WakeGuest) for a in actions)
    assert any(isinstance(a, CreateInstance) for a in actions)


def test_an_old_one_wakes_beside_a_canary_and_sleeps_when_that_is_over() -> None:
    """Else the canary would be the only one to ask."""
    canary = replace(OPEN, revision=2, previous=1, canary=10)
    views = (asleep(), view(ordinal=2, revision=2))
    wakes = [a for a in planned(*views, rollout=canary, current=2) if isinstance(a, WakeGuest)]
    assert [wake.instance.name for wake in wakes] == ["web-1"]
    over = planned(*views, rollout=replace(canary, canary=None), current=2)
    assert not any(isinstance(a, WakeGuest) for a in over)


def test_who_is_asked_for_wakes() -> None:
    [wake] = planned(asleep(AWAKE), spec=AWAKE)
    assert isinstance(wake, WakeGuest)


def test_who_is_asked_for_on_its_way_into_sleep_goes_on() -> None:
    [note] = planned(view(AWAKE, state=State.DRAINING, deadline=NOW + 2), spec=AWAKE)
    assert isinstance(note, Note)
    assert note.instance.state is State.RUNNING


def test_who_was_put_to_sleep_by_its_user_is_not_woken_by_requests() -> None:
    assert planned(asleep(AWAKE, goal=Goal.SLEEP), spec=AWAKE) == []


@pytest.mark.parametrize("condition", [DependencyCondition.STARTED, DependencyCondition.HEALTHY])
def test_who_rests_keeps_nobody_waiting_that_depends_on_it(condition: DependencyCondition) -> None:
    needs = ServiceSpec(name="front", image="sha256:2", depends_on={"web": condition})
    front = view(needs, state=State.PENDING, guest=None, healthy=None, boot=0, ready_at=None)
    kinds = [type(a).__name__ for a in planned(asleep(), front)]
    assert kinds == ["StartGuest"]
    # One that is only on its way up does.
    [wait, wake] = planned(front, asleep(AWAKE), spec=AWAKE)
    assert isinstance(wait, Note)
    assert isinstance(wake, WakeGuest)
