"""Rollouts as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """`phase` is running, paused, completed, failed or superseded; `canary` a percentage. `passed`
    and `failed` are names of instances. `lines` tell how far it has come (of the last one only).
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
    passed: list[str]
    failed: list[str]
    started_at: float
    ended_at: float | None
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceView:
    """A key of a service in which two revisions differ, as JSON."""

    key: str
    old: str
    new: str
