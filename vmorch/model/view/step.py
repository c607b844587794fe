"""What `--dry-run` shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One thing that would be done, in this order. `action` is build, create, replace, rollout (how
    the replacing goes), start, remove, change or keep; `subject` the service, instance or volume;
    `reason` says why."""

    action: str
    subject: str
    reason: str
