"""A rollout in words: how it will go, how far it has come, why it stands or went back."""

from __future__ import annotations

from typing import Any

import pytest

from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.rollout import FailureAction, Phase, Rollout, UpdateConfig, UpdateOrder
from vmorch.model.spec import ServiceSpec, VolumeMount
from vmorch.planner.rollout_words import progress, way
from vmorch.planner.snapshot import InstanceView

NOW = 1000.0


def spec(**changes: Any) -> ServiceSpec:
    return ServiceSpec(**{"name": "orders", "image": "sha256:1", "replicas": 4, **changes})


def rollout(**changes: Any) -> Rollout:
    values = {"environment": "shop", "service": "orders", "number": 3, "revision": 2}
    return Rollout(**{**values, "previous": 1, "started_at": NOW - 60, **changes})


def ready(ordinal: int, *, revision: int = 2, for_seconds: float = 7.0) -> InstanceView:
    instance = Instance(
        environment="shop",
        service="orders",
        ordinal=ordinal,
        revision=revision,
        uuid=str(ordinal),
        mac="52:54:00:00:00:01",
        inner_address="10.0.0.64",
        outer_address="10.1.0.64",
        goal=Goal.RUN,
        state=State.READY,
        reason="",
        created_at=NOW - 100,
        ready_at=NOW - for_seconds,
    )
    return InstanceView(instance=instance, spec=spec(), guest=GuestState.RUNNING)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"update": UpdateConfig(parallelism=2, delay_seconds=10, monitor_seconds=20)},
            "2 at once, 10 s between them; a successor is ready first and is watched for 20 s; "
            "when one fails it is rolled back",
        ),
        (
            {
                "update": UpdateConfig(
                    parallelism=0,
                    order=UpdateOrder.STOP_FIRST,
                    failure_action=FailureAction.PAUSE,
                    max_failure_ratio=0.25,
                )
            },
            "all at once; the forerunner goes first and is watched for 5 s; "
            "when more than 25% fail it is paused",
        ),
        (
            {
                "update": UpdateConfig(failure_action=FailureAction.CONTINUE),
                "volumes": (VolumeMount(source="d", target="/d", per_instance=True),),
            },
            "1 at once; the forerunner goes first and is watched for 5 s; "
            "it goes on whatever fails",
        ),
    ],
)
def test_how_it_will_go(changes: dict[str, Any], words: str) -> None:
    assert way(spec(**changes)) == words


def test_how_far_it_has_come_and_who_is_watched_for_how_long() -> None:
    service = spec(update=UpdateConfig(monitor_seconds=20, delay_seconds=30))
    views = [ready(5), ready(6), ready(7), ready(1, revision=1)]
    going = rollout(passed=(5, 6), passed_at=NOW - 10, reason="it was applied", canary=20)
    assert list(progress(going, service, views, NOW)) == [
        "rollout to revision 2, with 20 % of the requests, 2 of 4 replaced: it was applied",
        "orders-7 is watched for 13 s more before it counts (monitor)",
        "the next 1 instance in 20 s (delay)",
    ]


def test_why_it_is_paused_and_what_to_do() -> None:
    paused = rollout(phase=Phase.PAUSED, failed=(5,), reason="orders-5 was not ready in 60 s")
    assert list(progress(paused, spec(), [], NOW)) == [
        "rollout to revision 2 is paused, 0 of 4 replaced: orders-5 was not ready in 60 s; "
        "'vmorch rollout resume orders' goes on, 'undo' goes back",
        "orders-5 failed: 'vmorch logs orders-5' and 'vmorch logs --source console orders-5'",
    ]


def test_why_it_was_rolled_back_and_who_failed() -> None:
    failed = rollout(phase=Phase.FAILED, failed=(5,), reason="orders-5 got unhealthy: HTTP 500")
    first, second = progress(failed, spec(), [ready(5)], NOW)
    assert first == "the last rollout, to revision 2, failed: orders-5 got unhealthy: HTTP 500"
    assert second.startswith("orders-5 failed: 'vmorch logs orders-5'")
    back = rollout(rollback=True, revision=1, previous=None, reason="revision 2 failed")
    first, second = progress(back, spec(), [], NOW)
    assert first == "rollback to revision 1, 0 of 4 replaced: revision 2 failed"
    assert second.startswith("what the failed ones wrote is kept: 'vmorch logs NAME'")
