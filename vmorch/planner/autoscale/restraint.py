"""What keeps a count from following the load at once: stabilization and bounded steps. Pure.

Both are those of Kubernetes' HorizontalPodAutoscaler ("Configurable scaling behavior" there).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vmorch.model.autoscale import Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """In any `seconds` at most `instances`, or that share of them if it is more."""

    instances: int
    share: float
    seconds: float

    def size(self, count: int) -> int:
        # Rounded first: a tenth of 30 must be 3, not a bit more.
        return max(self.instances, math.ceil(round(count * self.share, 9)))


OUT = Step(instances=4, share=1.0, seconds=15.0)
"""Kubernetes' default."""
IN = Step(instances=4, share=0.1, seconds=60.0)
"""The example of Kubernetes' documentation; by default it has no bound here."""


def recommended(
    before: tuple[Count, ...], count: int, *, now: float, seconds: float
) -> tuple[Count, ...]:
    """With `count` as the newest. What a later one is as great as need not be remembered, so the
    first is the greatest of the last `seconds`."""
    kept = (old for old in before if old.count > count and old.at > now - seconds)
    return (*kept, Count(at=now, count=count))


def in_force(before: tuple[Count, ...], count: int, *, now: float) -> tuple[Count, ...]:
    """With `count` as what holds from now on, and as much of the past as steps look at."""
    changed = () if before and before[-1].count == count else (Count(at=now, count=count),)
    return _since((*before, *changed), now - max(OUT.seconds, IN.seconds))


def most(past: tuple[Count, ...], now: float) -> int:
    """`past` is that of `in_force`."""
    base = min(held.count for held in _since(past, now - OUT.seconds))
    return base + OUT.size(base)


def least(past: tuple[Count, ...], now: float) -> int:
    base = max(held.count for held in _since(past, now - IN.seconds))
    return base - IN.size(base)


def _since(past: tuple[Count, ...], start: float) -> tuple[Count, ...]:
    """What held at any time after `start`: the last count from before it did, too."""
    earlier = [held for held in past if held.at <= start]
    return (*earlier[-1:], *(held for held in past if held.at > start))
