"""Loads over time, and what their generators say of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import load_shapes, rate_load
from bench.load_shapes import Layer, Outcome, Stage, amount_at, constant, layers, sine, step

STEP = step(2, 12, before=30, during=60, after=90)


def test_a_step_is_a_run_for_all_the_time_and_one_beside_it() -> None:
    assert layers(STEP) == [Layer(0, 180, 2), Layer(30, 60, 10)]
    assert layers(constant(3, seconds=10)) == [Layer(0, 10, 3)]


def test_what_there_is_at_a_time() -> None:
    times = (-1, 0, 29.9, 30, 89.9, 90, 179.9, 180)
    assert [amount_at(STEP, second) for second in times] == [0, 2, 2, 12, 12, 2, 2, 0]


def test_a_wave_goes_from_low_to_high_and_back() -> None:
    wave = sine(2, 10, period=40, seconds=80)
    once = [2, 3, 6, 9, 10, 9, 6, 3]
    assert [stage.amount for stage in wave] == once * 2
    assert {stage.seconds for stage in wave} == {5}


@given(st.lists(st.builds(Stage, st.integers(1, 9), st.integers(0, 20)), min_size=1, max_size=8))
def test_the_runs_add_up_to_the_shape_at_every_time(stages: list[Stage]) -> None:
    shape = tuple(stages)
    found = layers(shape)
    for second in range(sum(stage.seconds for stage in shape)):
        running = (one for one in found if one.begin <= second < one.begin + one.seconds)
        assert sum(one.amount for one in running) == amount_at(shape, second)


def test_failures_count_over_all_runs() -> None:
    def generator(amount: int, seconds: int) -> Callable[[], Outcome]:
        return lambda: Outcome(requests=10 * amount, failed=seconds)

    # Both runs begin at once, so nobody waits.
    shape = (Stage(4, 5), Stage(2, 1))
    assert layers(shape) == [Layer(0, 4, 4), Layer(0, 6, 1)]
    assert load_shapes.run(shape, generator) == Outcome(requests=50, failed=10)


HEY = """
Summary:
  Total:\t2.0072 secs
  Requests/sec:\t5.9784

Response time histogram:
  0.001 [1]\t|■■■■■■■■■■■■■
  0.002 [0]\t|

Status code distribution:
  [200]\t8 responses
  [302]\t1 responses
  [503]\t4 responses

Error distribution:
  [6]\tGet "http://127.0.0.1:18999/slow": dial tcp 127.0.0.1:18999: connect: connection refused
  [1]\tGet "http://127.0.0.1:18999/slow": EOF
"""


def test_what_hey_says_is_read() -> None:
    assert rate_load.read(HEY) == Outcome(requests=20, failed=11)
    with pytest.raises(RuntimeError, match="hey did not finish"):
        rate_load.read("flag provided but not defined")
