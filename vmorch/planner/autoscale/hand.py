"""What a number that a user gives means for a service that scales by itself. Pure."""

from __future__ import annotations

from dataclasses import replace

from vmorch.errors import Refused
from vmorch.model.autoscale import AutoscaleMemory, AutoscaleSpec
from vmorch.planner.autoscale.restraint import recommended


def at_first(spec: AutoscaleSpec, replicas: int) -> int:
    """How many instances a new service starts with: its `replicas`, within its bounds."""
    return max(spec.min, min(replicas, spec.max))


def by_hand(
    service: str, spec: AutoscaleSpec, count: int, *, now: float, memory: AutoscaleMemory
) -> AutoscaleMemory:
    """The memory for the decision after a user's `scale` to `count`, which holds at once. It
    counts as a recommendation: load may raise it right away, and scales it in only once the time
    of stabilization is over.

    Raises:
        Refused: `count` is not within the bounds, so the next decision would undo it.
    """
    if not spec.min <= count <= spec.max:
        raise Refused(
            f"'{service}' scales by itself, from {spec.min} to {spec.max} instances, so it cannot "
            f"have {count}.",
            hint=f"Change 'autoscale' of '{service}' in the vmorch file, then 'vmorch up'.",
        )
    wanted = recommended(memory.recommended, count, now=now, seconds=spec.stabilization_seconds)
    return replace(memory, recommended=wanted)
