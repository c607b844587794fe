"""How long a restart waits: at once, then doubling, up to a cap."""

from __future__ import annotations

CAP_SECONDS = 60.0


def delay_seconds(failures: int, *, first: float) -> float:
    """Delay before the start that follows the `failures`-th failure in a row (1 is the first)."""
    return min(CAP_SECONDS, first * 2.0 ** max(0, min(failures, 16) - 1))
