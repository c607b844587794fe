"""What must hold of `update_config` and `rollback_config`. Pure, on the resolved model like
`checks`, which collects what is found here."""

from __future__ import annotations

from collections.abc import Iterator

from vmorch.model.rollout import FailureAction, UpdateConfig, UpdateOrder
from vmorch.model.spec import ServiceSpec

Finding = tuple[str, str]


def _configs(service: ServiceSpec) -> tuple[tuple[str, UpdateConfig], ...]:
    return (
        ("deploy.update_config", service.update),
        ("deploy.rollback_config", service.rollback),
    )


def rollout_times(service: ServiceSpec) -> Iterator[tuple[str, float, float]]:
    """Where each time stands, what it is, and the least that it may be."""
    for path, config in _configs(service):
        yield f"{path}.delay", config.delay_seconds, 0.0
        yield f"{path}.monitor", config.monitor_seconds, 0.0


def rollout_findings(service: ServiceSpec) -> Iterator[Finding]:
    for path, config in _configs(service):
        if config.order is UpdateOrder.START_FIRST and service.volumes:
            message = (
                "With a volume the order is stop-first: a successor cannot start before the "
                "instance that has the volume is gone."
            )
            yield f"{path}.order", message
        if not 0.0 <= config.max_failure_ratio <= 1.0:
            yield f"{path}.max_failure_ratio", "The share of failures is from 0 to 1."
        if config.parallelism < 0:
            yield f"{path}.parallelism", "There cannot be fewer than 0 instances."
    if service.rollback.failure_action is FailureAction.ROLLBACK:
        yield "deploy.rollback_config.failure_action", "A rollback that fails is not rolled back."
