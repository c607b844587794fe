"""Loads over time: how much is asked changes, and nothing that is under way is interrupted by it.

A shape is made of runs of a generator that lie above each other: one that goes from 2 to 12 and
back is a run of 2 for all the time, and one of 10 beside it for a part. The amount is whatever the
generator holds: requests in flight (`bench.http_load`) or requests a second (`bench.rate_load`).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby


@dataclass(frozen=True, slots=True)
class Stage:
    """So much for so long."""

    seconds: int
    amount: int


Shape = tuple[Stage, ...]


def constant(amount: int, *, seconds: int) -> Shape:
    return (Stage(seconds, amount),)


def step(low: int, high: int, *, before: int, during: int, after: int) -> Shape:
    """Seconds of `low`, of `high`, and of `low` again."""
    return (Stage(before, low), Stage(during, high), Stage(after, low))


def sine(low: int, high: int, *, period: int, seconds: int, every: int = 5) -> Shape:
    """A wave that begins at `low`, in stages of `every` seconds."""
    middle, swing = (low + high) / 2, (high - low) / 2
    amounts = (
        round(middle - swing * math.cos(2 * math.pi * second / period))
        for second in range(0, seconds, every)
    )
    return tuple(Stage(every, amount) for amount in amounts)


def amount_at(shape: Shape, second: float) -> int:
    """0 before and after it."""
    ends = accumulate(stage.seconds for stage in shape)
    found = (stage.amount for stage, end in zip(shape, ends, strict=True) if second < end)
    return next(found, 0) if second >= 0 else 0


@dataclass(frozen=True, slots=True, order=True)
class Layer:
    """One run of the generator, from `begin` seconds after the load's."""

    begin: int
    seconds: int
    amount: int


def layers(shape: Shape) -> list[Layer]:
    """In the order in which they begin. At each moment their amounts are the shape's in sum."""
    highest = max(stage.amount for stage in shape)
    stretches = Counter(
        stretch for level in range(1, highest + 1) for stretch in _stretches(shape, level)
    )
    return sorted(Layer(begin, seconds, amount) for (begin, seconds), amount in stretches.items())


def _stretches(shape: Shape, level: int) -> Iterator[tuple[int, int]]:
    """When the amount is at least that, as begin and length."""
    begin = 0
    for reached, stages in groupby(shape, lambda stage: stage.amount >= level):
        seconds = sum(stage.seconds for stage in stages)
        if reached:
            yield begin, seconds
        begin += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`failed` counts requests that had no answer or one that is no 2xx or 3xx."""

    requests: int
    failed: int


Generator = Callable[[int, int], Callable[[], Outcome]]
"""Starts a run, of an amount and seconds. What it returns waits for the end of it, and raises
RuntimeError if the generator did not finish."""


def run(shape: Shape, generator: Generator) -> Outcome:
    """All of the load. Raises RuntimeError: a generator did not finish."""
    began = time.monotonic()
    ends = []
    for layer in layers(shape):
        time.sleep(max(0.0, began + layer.begin - time.monotonic()))
        ends.append(generator(layer.amount, layer.seconds))
    outcomes = [end() for end in ends]
    return Outcome(
        requests=sum(outcome.requests for outcome in outcomes),
        failed=sum(outcome.failed for outcome in outcomes),
    )
