"""What happened, for people and programs. An event never carries a secret or a user's data."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class EventKind(enum.StrEnum):
    ENVIRONMENT_APPLIED = "environment-applied"
    ENVIRONMENT_EXPIRED = "environment-expired"
    ENVIRONMENT_REMOVED = "environment-removed"
    REVISION_CREATED = "revision-created"
    ROLLOUT_BEGUN = "rollout-begun"
    ROLLOUT_PASSED = "rollout-passed"
    ROLLOUT_FAILURE = "rollout-failure"
    ROLLOUT_PAUSED = "rollout-paused"
    ROLLOUT_RESUMED = "rollout-resumed"
    ROLLOUT_PROMOTED = "rollout-promoted"
    ROLLOUT_COMPLETED = "rollout-completed"
    ROLLED_BACK = "rolled-back"
    INSTANCE_CREATED = "instance-created"
    INSTANCE_WAITING = "instance-waiting"
    INSTANCE_RUNNING = "instance-running"
    INSTANCE_READY = "instance-ready"
    INSTANCE_UNREADY = "instance-unready"
    INSTANCE_SETTLED = "instance-settled"
    INSTANCE_DIED = "instance-died"
    INSTANCE_DRAINING = "instance-draining"
    INSTANCE_STOPPING = "instance-stopping"
    INSTANCE_STOPPED = "instance-stopped"
    INSTANCE_PAUSED = "instance-paused"
    INSTANCE_RESUMED = "instance-resumed"
    INSTANCE_SLEEPING = "instance-sleeping"
    INSTANCE_WOKEN = "instance-woken"
    SLEEP_FAILED = "sleep-failed"
    MEMORY_LOST = "memory-lost"
    INSTANCE_COMPLETED = "instance-completed"
    INSTANCE_REMOVED = "instance-removed"
    CLOUD_INIT_FAILED = "cloud-init-failed"
    ACTION_FAILED = "action-failed"
    SERVICE_SCALED = "service-scaled"
    INSTANCE_STARTING = "instance-starting"
    GUEST_CAPPED = "guest-capped"
    GUEST_DESTROYED = "guest-destroyed"
    GUEST_GIVEN_UP = "guest-given-up"
    OUT_OF_MEMORY = "out-of-memory"
    SNAPSHOT_BEGUN = "snapshot-begun"
    SNAPSHOT_MADE = "snapshot-made"
    SNAPSHOT_FAILED = "snapshot-failed"
    SNAPSHOT_REMOVED = "snapshot-removed"
    FORK_FAILED = "fork-failed"
    UNKNOWN_GUEST = "unknown-guest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`id` counts up in one store; `time` is seconds since the epoch; `instance` and `service`
    are empty where the event is about the whole environment."""

    id: int
    time: float
    environment: str
    service: str
    instance: str
    kind: EventKind
    message: str
