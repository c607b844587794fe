"""How long answers took, of those that are logged one by one. Pure; the API asks for it."""

from __future__ import annotations

from collections.abc import Sequence

from vmorch.model.counters import MEAN_OF
from vmorch.model.use import Latency


def latency(seconds: Sequence[float]) -> Latency | None:
    """Of the last ones, as many as the mean is of; None of none."""
    ordered = sorted(seconds[-MEAN_OF:])
    if not ordered:
        return None
    return Latency(
        answers=len(ordered),
        p50_seconds=_within(ordered, 50),
        p95_seconds=_within(ordered, 95),
        p99_seconds=_within(ordered, 99),
    )


def _within(ordered: Sequence[float], percent: int) -> float:
    """The least of them within which so many of a hundred are (the nearest rank)."""
    return ordered[-(-percent * len(ordered) // 100) - 1]
