"""The last look, for whoever wants to know why things are as they are.

Kept by `vmorch.reconciler.loop` and `autoscaling`; read by `vmorch.planner.explain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vmorch.planner.actions import Action
from vmorch.planner.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """An action on one instance that has begun at `since` and has not ended. `failure` says why it
    could not be done, and `again_at` when that is tried again."""

    action: Action
    since: float
    failure: str = ""
    again_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """`snapshot` was taken at `at`; `under_way` is of now, by instance, and `autoscaling` what
    was decided last of each service that scales by itself, by (environment, service). `trouble`
    says why no newer look could be had."""

    snapshot: Snapshot
    at: float
    under_way: Mapping[tuple[str, str, int], UnderWay] = field(default_factory=dict)
    autoscaling: Mapping[tuple[str, str], str] = field(default_factory=dict)
    trouble: str = ""
