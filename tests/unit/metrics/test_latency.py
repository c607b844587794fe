"""Quantiles of what is logged."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from vmorch.metrics.latency import latency
from vmorch.model.counters import MEAN_OF
from vmorch.model.use import Latency


def test_of_nothing_there_is_none() -> None:
    assert latency([]) is None


def test_one_in_a_hundred_takes_longer() -> None:
    seconds = [n / 100 for n in range(1, 101)]
    random.Random(1).shuffle(seconds)
    assert latency(seconds) == Latency(
        answers=100, p50_seconds=0.5, p95_seconds=0.95, p99_seconds=0.99
    )


def test_of_one_answer_all_are_that() -> None:
    assert latency([2.0]) == Latency(answers=1, p50_seconds=2.0, p95_seconds=2.0, p99_seconds=2.0)


def test_only_the_last_ones_count() -> None:
    found = latency([9.0] * 5000 + [0.1] * MEAN_OF)
    assert found is not None
    assert (found.answers, found.p99_seconds) == (MEAN_OF, 0.1)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=MEAN_OF))
def test_so_many_of_a_hundred_came_within_it_and_fewer_within_less(seconds: list[float]) -> None:
    found = latency(seconds)
    assert found is not None
    for percent, bound in (
        (50, found.p50_seconds),
        (95, found.p95_seconds),
        (99, found.p99_seconds),
    ):
        assert sum(s <= bound for s in seconds) * 100 >= percent * len(seconds)
        assert sum(s < bound for s in seconds) * 100 < percent * len(seconds)
