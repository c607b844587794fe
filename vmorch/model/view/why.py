"""What `vmorch why` shows."""

from __future__ import annotations

from dataclasses import dataclass, field

from vmorch.model.view.stream import EventView


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAheadView:
    """What will happen at `at` by itself, if nothing else does before."""

    at: float
    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyView:
    """`state` is an instance's; of a service `ready` or `not ready`; of what only events are left
    of, `gone`. `waits` are sentences, as `summary` and `notes` are; `events` the last about it,
    oldest first. Ages count from `asked_at`, which is the daemon's time."""

    environment: str
    subject: str
    state: str
    summary: str
    waits: list[str]
    notes: list[str]
    asked_at: float
    steps: list[StepAheadView] = field(default_factory=list)
    events: list[EventView] = field(default_factory=list)
