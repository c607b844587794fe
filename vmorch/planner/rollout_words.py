"""Rollouts in words for people: how one will go, and how far one has come. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vmorch.model.instance import State
from vmorch.model.names import instance_name
from vmorch.model.rollout import FailureAction, Phase, Rollout, UpdateConfig, UpdateOrder
from vmorch.model.spec import ServiceSpec
from vmorch.planner.snapshot import InstanceView
from vmorch.planner.words import counted, span


def way(spec: ServiceSpec, *, rollback: bool = False) -> str:
    """How instances of a service are replaced, in the order in which it is done."""
    config = spec.rollback if rollback else spec.update
    count = min(config.parallelism or spec.kept_replicas, spec.kept_replicas)
    at_once = "all at once" if count >= spec.kept_replicas else f"{count} at once"
    pause = f", {span(config.delay_seconds)} between them" if config.delay_seconds else ""
    first = {
        UpdateOrder.START_FIRST: "a successor is ready first",
        UpdateOrder.STOP_FIRST: "the forerunner goes first",
    }[spec.update_order(rollback=rollback)]
    return (
        f"{at_once}{pause}; {first} and is watched for {span(config.monitor_seconds)}; "
        f"{_on_failure(config.failure_action, config.max_failure_ratio)}"
    )


def _on_failure(action: FailureAction, ratio: float) -> str:
    bound = "when one fails" if ratio == 0 else f"when more than {ratio:.0%} fail"
    match action:
        case FailureAction.ROLLBACK:
            return f"{bound} it is rolled back"
        case FailureAction.PAUSE:
            return f"{bound} it is paused"
        case FailureAction.CONTINUE:
            return "it goes on whatever fails"


def progress(
    rollout: Rollout, spec: ServiceSpec, views: Sequence[InstanceView], now: float
) -> Iterator[str]:
    """How far the last rollout of a service has come; of one that has ended, how. `views` are the
    service's instances."""
    yield _standing(rollout, spec)
    if rollout.is_open:
        yield from watched(rollout, spec, views, now)
        yield from _delay(rollout, spec, now)
    for ordinal in rollout.failed:
        name = instance_name(rollout.service, ordinal)
        yield f"{name} failed: 'vmorch logs {name}' and 'vmorch logs --source console {name}'"
    if rollout.rollback:
        yield "what the failed ones wrote is kept: 'vmorch logs NAME', with '--source console' too"


def _standing(rollout: Rollout, spec: ServiceSpec) -> str:
    what = "rollback" if rollout.rollback else "rollout"
    done = f"{len(rollout.passed)} of {spec.kept_replicas} replaced"
    reason = f": {rollout.reason}" if rollout.reason else ""
    match rollout.phase:
        case Phase.RUNNING:
            share = f", with {rollout.canary} % of the requests" if rollout.canary else ""
            return f"{what} to revision {rollout.revision}{share}, {done}{reason}"
        case Phase.PAUSED:
            again = f"'vmorch rollout resume {rollout.service}' goes on, 'undo' goes back"
            return f"{what} to revision {rollout.revision} is paused, {done}{reason}; {again}"
        case _:
            return f"the last {what}, to revision {rollout.revision}, {rollout.phase}{reason}"


def watched(
    rollout: Rollout, spec: ServiceSpec, views: Sequence[InstanceView], now: float
) -> Iterator[str]:
    """Those of an open rollout's instances that are ready and have to stay so for a while."""
    seconds = _config(rollout, spec).monitor_seconds
    for view in views:
        instance = view.instance
        is_new = view.wanted and instance.revision == rollout.revision
        waits = instance.state is State.READY and instance.ordinal not in rollout.passed
        if is_new and waits and instance.ready_at is not None:
            left = span(instance.ready_at + seconds - now)
            yield f"{instance.name} is watched for {left} more before it counts (monitor)"


def _delay(rollout: Rollout, spec: ServiceSpec, now: float) -> Iterator[str]:
    config = _config(rollout, spec)
    if config.delay_seconds and rollout.passed_at is not None:
        left = rollout.passed_at + config.delay_seconds - now
        if left > 0:
            yield f"the next {counted(config.parallelism, 'instance')} in {span(left)} (delay)"


def _config(rollout: Rollout, spec: ServiceSpec) -> UpdateConfig:
    return spec.rollback if rollout.rollback else spec.update
