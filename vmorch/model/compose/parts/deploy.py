"""`deploy:`, the older keys that say the same, and `restart:`."""

from __future__ import annotations

from typing import Any

from vmorch.model.compose.forms import BYTES, COUNT, CPUS, DURATION, Choice, Word
from vmorch.model.compose.objects import Key, Object, Values
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
_ROLLOUT = Object(
    name="rollout",
    keys={
        "parallelism": Key(COUNT, "Instances that are replaced at once."),
        "delay": Key(DURATION, "Time between two groups."),
        "failure_action": Key(
            Choice(("pause", "continue", "rollback")), "What to do when an instance fails."
        ),
        "monitor": Key(DURATION, "How long a new instance is watched."),
        "max_failure_ratio": Key(CPUS, "Share of failures that is borne."),
        "order": Key(Choice(("stop-first", "start-first")), "Which of the two goes first."),
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
        "update_config": Key(_ROLLOUT, "How a new revision replaces the old one."),
        "rollback_config": Key(_ROLLOUT, "How a rollback is done."),
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
