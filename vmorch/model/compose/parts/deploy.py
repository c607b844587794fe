"""`deploy:`, the older keys that say the same, and `restart:`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vmorch.model.compose.forms import BYTES, COUNT, CPUS, DURATION, Choice, Word
from vmorch.model.compose.objects import Key, Object, Values
from vmorch.model.rollout import BACKWARDS, FailureAction, UpdateConfig, UpdateOrder
from vmorch.model.spec import RestartCondition, RestartPolicy

_ONE_KIND = "only 'replicated' services exist; vmorch runs on one host."


def _restart_policy(values: Values) -> RestartPolicy:
    given: dict[str, Any] = {}
    if "condition" in values:
        given["condition"] = RestartCondition(values.get("condition"))
    if "delay" in values:
        given["delay_seconds"] = values.get("delay")
    if "window" in values:
        given["window_seconds"] = values.get("window")
    return RestartPolicy(max_attempts=_bound(values.get("max_attempts")), **given)


def _bound(attempts: int | None) -> int | None:
    """0 is no bound, as in Docker."""
    return attempts or None


def _restart(text: str) -> RestartPolicy:
    word, _, attempts = text.partition(":")
    match word:
        case "no":
            return RestartPolicy(condition=RestartCondition.NONE)
        case "on-failure":
            most = _bound(int(attempts or 0))
            return RestartPolicy(condition=RestartCondition.ON_FAILURE, max_attempts=most)
    return RestartPolicy(condition=RestartCondition.ANY)


RESTART = Word(
    "no, always, unless-stopped, on-failure or on-failure:COUNT",
    r"no|always|unless-stopped|on-failure(?::[0-9]{1,6})?",
    _restart,
)
_LIMITS = {
    "cpus": Key(CPUS, "CPUs; 0.5 is half a core."),
    "memory": Key(BYTES, "The memory of the guest."),
}
_RESOURCE_REFUSED = {
    "pids": "processes live in the guest's own kernel and cannot be counted from outside.",
    "devices": "devices of the host are not passed to guests.",
    "generic_resources": "devices of the host are not passed to guests.",
}
_SHARE = Word("a share from 0 to 1", r"0(\.[0-9]{1,6})?|1(\.0{1,6})?", float, numbers=True)


def _update_config(values: Values) -> UpdateConfig:
    return _config(values, UpdateConfig())


def _rollback_config(values: Values) -> UpdateConfig:
    return _config(values, BACKWARDS)


def _config(values: Values, default: UpdateConfig) -> UpdateConfig:
    given: dict[str, Any] = {
        field: values.get(key)
        for key, field in (
            ("parallelism", "parallelism"),
            ("delay", "delay_seconds"),
            ("monitor", "monitor_seconds"),
            ("max_failure_ratio", "max_failure_ratio"),
        )
        if key in values
    }
    if "failure_action" in values:
        given["failure_action"] = FailureAction(values.get("failure_action"))
    if "order" in values:
        given["order"] = UpdateOrder(values.get("order"))
    return replace(default, **given)


def _rollout(name: str, build: Callable[[Values], UpdateConfig], *on_failure: str) -> Object:
    return Object(
        name=name,
        build=build,
        keys={
            "parallelism": Key(COUNT, "Instances that are replaced at once; 0: all."),
            "delay": Key(DURATION, "The pause before the next are replaced."),
            "failure_action": Key(Choice(on_failure), "What follows when too many have failed."),
            "monitor": Key(DURATION, "How long a new instance is watched from when it is ready."),
            "max_failure_ratio": Key(_SHARE, "The share of instances that may fail."),
            "order": Key(
                Choice(tuple(UpdateOrder)), "Which of an instance and its successor goes first."
            ),
        },
    )


DEPLOY = Object(
    name="deploy",
    refused={
        "labels": "write 'labels' at the service.",
        "placement": _ONE_KIND,
        "endpoint_mode": "a service always has one stable address.",
    },
    keys={
        "mode": Key(Choice(("replicated",)), "Only 'replicated'."),
        "replicas": Key(COUNT, "How many instances run."),
        "resources": Key(
            Object(
                name="resources",
                keys={
                    "limits": Key(
                        Object(name="limits", keys=_LIMITS, refused=_RESOURCE_REFUSED),
                        "The hard caps of each instance.",
                    ),
                    "reservations": Key(
                        Object(name="reservations", keys=_LIMITS, refused=_RESOURCE_REFUSED),
                        "What is kept free on the host for each instance.",
                    ),
                },
            ),
            "CPU and memory of each instance.",
        ),
        "update_config": Key(
            _rollout("update_config", _update_config, "pause", "continue", "rollback"),
            "How a new revision replaces the old one.",
        ),
        "rollback_config": Key(
            _rollout("rollback_config", _rollback_config, "pause", "continue"),
            "How a rollback is done.",
        ),
        "restart_policy": Key(
            Object(
                name="restart_policy",
                build=_restart_policy,
                keys={
                    "condition": Key(
                        Choice(("none", "on-failure", "any")), "When a stopped guest starts again."
                    ),
                    "delay": Key(DURATION, "The first pause before a restart."),
                    "max_attempts": Key(
                        COUNT, "How many restarts in a row are tried; 0: no bound."
                    ),
                    "window": Key(DURATION, "How long a restart must hold to count as done."),
                },
            ),
            "When an instance is started again.",
        ),
    },
)
