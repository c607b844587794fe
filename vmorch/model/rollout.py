"""Rollouts: how a service gets from one revision to the next, and how far one has come."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace


class UpdateOrder(enum.StrEnum):
    """START_FIRST: a successor is ready before its forerunner goes; STOP_FIRST: the other way."""

    START_FIRST = "start-first"
    STOP_FIRST = "stop-first"


class FailureAction(enum.StrEnum):
    PAUSE = "pause"
    CONTINUE = "continue"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateConfig:
    """Compose's `update_config` and `rollback_config`. `parallelism` instances are replaced at
    once (0: all), `delay_seconds` after the last one was. A new instance is watched for
    `monitor_seconds` from when it is ready; only then its forerunner may go. When more than
    `max_failure_ratio` of the replicas have failed, `failure_action` follows. `order` None is
    start-first, but stop-first where instances have volumes."""

    parallelism: int = 1
    delay_seconds: float = 0.0
    order: UpdateOrder | None = None
    failure_action: FailureAction = FailureAction.ROLLBACK
    monitor_seconds: float = 5.0
    max_failure_ratio: float = 0.0


BACKWARDS = UpdateConfig(parallelism=0, failure_action=FailureAction.CONTINUE)
"""A rollback without a `rollback_config`: at once, as what is left behind has failed, and on and
on, as there is nothing better to go to."""


class Phase(enum.StrEnum):
    """FAILED and SUPERSEDED: it ended on the way; of the first, a rollback took over, of the
    second a newer revision or a user's undo."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    SUPERSEDED = "superseded"


OPEN = frozenset({Phase.RUNNING, Phase.PAUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The way of one service to `revision`, the `number`-th of its rollouts.

    `previous` is the last revision that was rolled out whole: where a failure leads back to; None
    when there is none. `rollback`: it leads back itself. `reason` says why it began, or, when it
    is paused or has ended, why that. `canary` is the share of requests (1 to 99 percent) that the
    new revision gets until a user promotes it. `passed` are the ordinals of the instances that
    have been ready for the time of `monitor`, the last at `passed_at`; `failed` those that have
    not made it, `forgiven` those of them that were borne when a user resumed.
    """

    environment: str
    service: str
    number: int
    revision: int
    previous: int | None
    started_at: float
    phase: Phase = Phase.RUNNING
    rollback: bool = False
    reason: str = ""
    canary: int | None = None
    passed: tuple[int, ...] = ()
    passed_at: float | None = None
    failed: tuple[int, ...] = ()
    forgiven: tuple[int, ...] = ()
    ended_at: float | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.environment, self.service, self.number)

    @property
    def is_open(self) -> bool:
        return self.phase in OPEN

    def canaries(self, replicas: int) -> int:
        """As many as carry the canary's share of the requests like the others carry theirs; 0
        without a canary."""
        return max(1, round(replicas * self.canary / 100)) if self.canary else 0

    def resumed(self) -> Rollout:
        """A user bears what has failed so far."""
        return replace(
            self,
            phase=Phase.RUNNING,
            reason="resumed by the user",
            failed=(),
            forgiven=(*self.forgiven, *self.failed),
        )

    @property
    def good_revision(self) -> int | None:
        """The newest revision that was rolled out whole, this one's or the one before it."""
        return self.revision if self.phase is Phase.COMPLETED else self.previous
