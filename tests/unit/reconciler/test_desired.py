"""How many instances should be ready, beside what rests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vmorch.model.instance import EnvironmentNetwork, Goal, Instance, State
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.reconciler.desired import desired_counts
from vmorch.store.protocol import EnvironmentRecord

NETWORK = EnvironmentNetwork(
    environment="shop", index=3, inner="", outer="", link="", internal=False
)
RECORD = EnvironmentRecord(
    name="shop",
    spec=EnvironmentSpec(
        name="shop", services={"web": ServiceSpec(name="web", image="sha256:1", replicas=3)}
    ),
    version=1,
    network=NETWORK,
    current={"web": 1},
    created_at=0.0,
)


def instance(ordinal: int, goal: Goal, state: State, *, exit_code: int | None = None) -> Instance:
    return Instance(
        environment="shop",
        service="web",
        ordinal=ordinal,
        revision=1,
        uuid="",
        mac="",
        inner_address="",
        outer_address="",
        goal=goal,
        state=state,
        reason="",
        created_at=0.0,
        exit_code=exit_code,
    )


def desired(*instances: Instance, record: EnvironmentRecord = RECORD) -> int:
    return desired_counts([record], instances)["shop", "web"]


def test_what_is_missing_or_on_its_way_should_be_there() -> None:
    assert desired() == 3
    states = (State.PENDING, State.READY, State.RUNNING)
    assert desired(*(instance(n, Goal.RUN, state) for n, state in enumerate(states))) == 3


@pytest.mark.parametrize(
    ("goal", "state"),
    [
        (Goal.STOP, State.STOPPED),
        (Goal.SLEEP, State.SLEEPING),
        (Goal.PAUSE, State.PAUSED),
        (Goal.STOP, State.DRAINING),
    ],
)
def test_who_rests_should_not_be_ready(goal: Goal, state: State) -> None:
    assert desired(instance(1, goal, state)) == 2


def test_who_has_completed_has_done_its_work_and_who_failed_has_not() -> None:
    assert desired(instance(1, Goal.STOP, State.STOPPED, exit_code=0)) == 2
    assert desired(instance(1, Goal.STOP, State.FAILED, exit_code=1)) == 3


def test_who_leaves_is_none_of_those_that_should_be_there() -> None:
    assert desired(*(instance(n, Goal.REMOVE, State.STOPPED) for n in range(5))) == 3


def test_a_service_that_sleeps_keeps_an_instance_that_nobody_wants_awake() -> None:
    service = replace(RECORD.spec.services["web"], replicas=0)
    record = replace(RECORD, spec=replace(RECORD.spec, services={"web": service}))
    assert desired(instance(1, Goal.SLEEP, State.SLEEPING), record=record) == 0


def test_of_what_is_removed_nothing_should_be_there() -> None:
    assert desired(record=replace(RECORD, removing=True)) == 0
