"""The documented examples of Kubernetes' HorizontalPodAutoscaler, and cases of its calculator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from autoscale_values import NOTHING, NOW, shown, steady

from vmorch.model.autoscale import AutoscaleSpec, Count, Load
from vmorch.model.compose.autoscale_checks import MOST_SHARE
from vmorch.planner.autoscale import desired, restraint
from vmorch.planner.autoscale.demand import of_tracked


def tracked(target: float, total: float, *, told: int, current: int) -> int:
    recent = shown(total, ready=told, told=told, seconds=15)
    demand = of_tracked(Load.CPU, recent, target=target, current=current, longest_hole_seconds=6)
    assert demand is not None
    return demand.count


@pytest.mark.parametrize(
    ("mean", "current", "count"),
    [
        (0.2, 3, 6),  # 200m where 100m is wanted: doubled
        (0.05, 4, 2),  # 50m: halved
        (0.109, 10, 10),  # within the tolerance of a tenth
        (0.091, 10, 10),
        (0.112, 10, 12),
        (0.088, 10, 9),
    ],
)
def test_the_ratio_of_the_documentation(mean: float, current: int, count: int) -> None:
    assert tracked(0.1, mean * current, told=current, current=current) == count


@pytest.mark.parametrize(
    ("shares", "current", "target", "count"),
    [
        ([0.3, 0.5, 0.7], 3, 0.3, 5),
        ([0.1, 0.3, 0.5, 0.25, 0.25], 5, 0.5, 3),
        ([0.5, 0.7], 3, 0.3, 4),  # the third is not ready: less of a scale-out
        ([0.4], 3, 0.3, 3),  # two are not ready and may be the help: none
        ([0.1, 0.3, 0.5], 5, 0.5, 2),  # those that are not ready do not hold up a scale-in
        ([2.1] * 5, 10, 1.0, 10),  # with the other five idle it is within the tolerance
        ([0.4] * 10, 4, 0.5, 4),  # six are on their way out: too little to do is no scale-out
        ([1.9], 2, 1.0, 2),  # nothing is known of the second: idle for a scale-out
    ],
)
def test_the_cases_of_the_calculator(
    shares: list[float], current: int, target: float, count: int
) -> None:
    assert tracked(target, sum(shares), told=len(shares), current=current) == count


def test_what_is_used_whole_is_too_much_for_the_greatest_target() -> None:
    most = round(MOST_SHARE * 100)
    targets = [percent / 100 for percent in range(1, most + 1)]
    assert all(tracked(target, 1.0, told=1, current=1) > 1 for target in targets)
    assert tracked((most + 1) / 100, 1.0, told=1, current=1) == 1


def test_nothing_is_lost_to_rounding() -> None:
    assert tracked(0.7, 0.7 + 0.7 + 0.7, told=2, current=2) == 3


def test_of_several_loads_the_greatest_wins() -> None:
    spec = AutoscaleSpec(max=10, cpu=0.5, rps=10)
    measures = steady(ready=2, cpu=1.0, rps=25)
    assert desired(spec, measures, now=NOW, current=2, memory=NOTHING).count == 4
    measures = steady(ready=2, cpu=0.5, rps=55)
    assert desired(spec, measures, now=NOW, current=2, memory=NOTHING).count == 6


@pytest.mark.parametrize(("rps", "count"), [(80, 8), (10, 5)])
def test_a_load_that_is_missing_holds_up_scaling_in_and_not_out(rps: float, count: int) -> None:
    spec = AutoscaleSpec(max=10, cpu=0.5, rps=10, stabilization_seconds=0)
    measures = steady(ready=5, rps=rps)
    assert desired(spec, measures, now=NOW, current=5, memory=NOTHING).count == count


def test_one_silent_instance_holds_up_scaling_in() -> None:
    """Where Kubernetes takes it to use all that it should, we take away none."""
    spec = AutoscaleSpec(max=10, cpu=0.5, stabilization_seconds=0)
    full = steady(ready=4, cpu=0.1)
    partial = steady(ready=4, cpu=0.1, told=3)
    assert desired(spec, full, now=NOW, current=4, memory=NOTHING).count == 1
    decision = desired(spec, partial, now=NOW, current=4, memory=NOTHING)
    assert decision.count == 4
    assert decision.reason == "stays at 4: measures of cpu are missing, so none is taken away"


def test_readings_of_some_instances_are_not_taken_for_less_load() -> None:
    spec = AutoscaleSpec(max=10, cpu=0.7, stabilization_seconds=0)
    third_whole = tuple(
        measure if number % 3 == 0 else replace(measure, cpu_told=1)
        for number, measure in enumerate(steady(ready=4, cpu=0.65))
    )
    decision = desired(spec, third_whole, now=NOW, current=4, memory=NOTHING)
    assert decision.reason == "stays at 4: cpu at 65% over 15s, target 70%"


def held(count: int) -> tuple[Count, ...]:
    return (Count(at=NOW - 1000, count=count),)


@pytest.mark.parametrize(("count", "least"), [(80, 72), (72, 64), (41, 36), (40, 36), (30, 26)])
def test_the_policies_of_the_documentation_for_scaling_in(count: int, least: int) -> None:
    assert restraint.least(held(count), NOW) == least


@pytest.mark.parametrize(("count", "most"), [(1, 5), (3, 7), (4, 8), (10, 20)])
def test_the_default_policies_for_scaling_out(count: int, most: int) -> None:
    assert restraint.most(held(count), NOW) == most


def test_a_policy_looks_at_its_whole_period() -> None:
    past = restraint.in_force(held(80), 72, now=NOW)
    assert restraint.least(past, NOW + 59) == 72
    assert restraint.least(past, NOW + 60) == 64
    past = restraint.in_force(held(1), 5, now=NOW)
    assert restraint.most(past, NOW + 14) == 5
    assert restraint.most(past, NOW + 15) == 10
