"""Rollouts as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutInstanceView:
    """`passed`: it has been ready for the time of `monitor`."""

    instance: str
    revision: int
    state: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """`phase` is running, paused, completed, failed or superseded; `canary` a percentage. `passed`
    and `failed` are names of instances, `needed` is how many have to pass: the canary's, or all.
    `lines` tell how far it has come, and `instances` are the service's (of the last one only).
    """

    environment: str
    service: str
    number: int
    revision: int
    previous: int | None
    image: str
    phase: str
    rollback: bool
    reason: str
    canary: int | None
    replicas: int
    needed: int
    passed: list[str]
    failed: list[str]
    started_at: float
    ended_at: float | None
    lines: list[str] = field(default_factory=list)
    instances: list[RolloutInstanceView] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return self.phase in {"running", "paused"}

    @property
    def canary_passed(self) -> bool:
        """It has a canary, which only waits for a user."""
        return self.phase == "running" and bool(self.canary) and len(self.passed) >= self.needed


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceView:
    """A key of a service (`cpus`, `environment.PORT`) in which two revisions differ. Values are
    JSON; None: one of them has no such key."""

    key: str
    old: str | None
    new: str | None
