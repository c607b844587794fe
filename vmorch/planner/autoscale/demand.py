"""How many instances one load asks for. Pure.

Requests in flight as in Knative's autoscaler (serving, docs/scaling and its kpa-specific page):
the mean over a stable window, and over a short panic window when it shows a burst. Requests per
second, CPU and memory as in Kubernetes' HorizontalPodAutoscaler ("Algorithm details" there): the
ratio to the target, a tolerance around it, and pessimism about instances that nothing is known of.

Of both, more load never asks for less: every step here is monotonic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from vmorch.model.autoscale import LEAST_WINDOW_SECONDS, Load
from vmorch.planner.autoscale.window import Window
from vmorch.planner.autoscale.words import number, seconds_text, share

PANIC_THRESHOLD = 2.0
"""Of the ready instances' target: Knative's panic-threshold-percentage of 200."""
TOLERANCE = 0.1
"""Around a ratio of 1: Kubernetes' --horizontal-pod-autoscaler-tolerance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """`certain`: enough is known to scale in by it."""

    count: int
    reason: str
    certain: bool


def needed(total: float, target: float) -> int:
    """Instances that hold `target` each. Rounded first: 2.1 / 0.7 must be 3, not a bit more."""
    return math.ceil(_ratio(total, target))


def _ratio(total: float, target: float) -> float:
    return round(total / target, 9)


def panicking_since(
    panic: Window, *, target: float, before: float | None, stable_seconds: float
) -> float | None:
    """When the burst that is under way was last seen; None without one. It is over when it was
    not seen for a whole stable window: then that one has all of it."""
    if panic.readings:
        ready = max(1, panic.newest.ready)
        if needed(panic.total(), target) >= PANIC_THRESHOLD * ready:
            return panic.now
    over = before is None or panic.now - before >= stable_seconds
    return None if over else before


def of_concurrency(
    stable: Window,
    panic: Window,
    *,
    target: float,
    current: int,
    panicking: bool,
    longest_hole_seconds: float,
) -> Demand | None:
    """None: nothing is known. In panic never less than there are (Knative: no decrease)."""
    if not stable.readings:
        return None
    shown = stable
    if panicking and panic.readings and panic.total() > stable.total():
        shown = panic
    count = needed(shown.total(), target)
    return Demand(
        count=max(count, current) if panicking else count,
        reason=(
            f"{number(shown.total())} requests in flight over {seconds_text(shown.seconds)}, "
            f"{number(target)} for each instance" + (", in a burst" if panicking else "")
        ),
        certain=stable.unbroken(longest_hole_seconds),
    )


def of_tracked(
    load: Load, recent: Window, *, target: float, current: int, longest_hole_seconds: float
) -> Demand | None:
    """None: nothing is known. Less than there are only by readings of all ready instances: the sum
    over some of them is not what there is to do."""
    if not recent.readings:
        return None
    certain = recent.unbroken(longest_hole_seconds)
    demand = _of_readings(load, recent, target=target, current=current, certain=certain)
    if demand.count >= current or not recent.whole.readings:
        return demand
    less = _of_readings(load, recent.whole, target=target, current=current, certain=certain)
    return replace(less, count=min(less.count, current))


def _of_readings(
    load: Load, recent: Window, *, target: float, current: int, certain: bool
) -> Demand:
    told = max(1, recent.newest.told)
    everyone = max(told, current, recent.newest.ready)
    return Demand(
        count=_tracked(recent.total(), target, told=told, everyone=everyone, current=current),
        reason=_tracked_reason(load, recent, target, told),
        certain=certain,
    )


def once_known(demand: Demand, *, known_seconds: float, current: int) -> Demand:
    """Out only by what is known for some ticks: one that shows what an instance does to begin with
    must not make more of them."""
    if demand.count <= current or known_seconds >= LEAST_WINDOW_SECONDS:
        return demand
    why = f"known for less than {seconds_text(LEAST_WINDOW_SECONDS)}"
    return replace(demand, count=current, reason=f"{demand.reason}; {why}")


def _tracked(total: float, target: float, *, told: float, everyone: float, current: int) -> int:
    """An instance that is silent or not ready yet is taken to be idle when the others have too
    much to do: it may be the one that helps. (When they have too little, silence holds all.)"""
    ratio = _ratio(total, target * told)
    if abs(ratio - 1) <= TOLERANCE:
        return current
    if ratio < 1:
        return min(current, needed(total, target))
    if _ratio(total, target * everyone) <= 1 + TOLERANCE:
        return current
    return max(current, needed(total, target))


def _tracked_reason(load: Load, recent: Window, target: float, told: float) -> str:
    over = seconds_text(recent.seconds)
    if load is Load.RPS:
        return (
            f"{number(recent.total())} requests per second over {over}, {number(target)} for "
            "each instance"
        )
    return f"{load.value} at {share(recent.total() / told)} over {over}, target {share(target)}"
