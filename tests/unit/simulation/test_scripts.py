"""Random scripts end well; and the simulation would notice if they did not: bugs that are planted
here are found, and the script that finds one is short."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vmorch.model.instance import Goal
from vmorch.planner import lifecycle, running
from vmorch.planner.verdict import Rule, leave_busy_alone
from vmorch.reconciler.loop import Reconciler
from vmorch.simulation.script import fault_points, script_of
from vmorch.simulation.search import outcome_of, search
from vmorch.simulation.shrink import Finding, tried

STEPS = 40
PLANTED_STEPS = 10_000
"""Within so many a planted bug must be found."""
PLANTED_SCRIPT = 20
SHORT = 5


@pytest.mark.parametrize("seed", range(6))
def test_a_random_script_ends_as_declared(seed: int) -> None:
    finding = outcome_of(seed, STEPS).finding
    assert finding is None, str(finding)


def swap_cap_and_admission(patch: pytest.MonkeyPatch) -> None:
    rules = list(lifecycle.RULES[Goal.RUN])
    cap, admission = rules.index(running.end_burst), rules.index(running.admit)
    rules[cap], rules[admission] = rules[admission], rules[cap]
    patch.setitem(lifecycle.RULES, Goal.RUN, tuple(rules))


def act_on_the_busy(patch: pytest.MonkeyPatch) -> None:
    def without(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return tuple(rule for rule in rules if rule is not leave_busy_alone)

    for goal, rules in list(lifecycle.RULES.items()):
        patch.setitem(lifecycle.RULES, goal, without(rules))


def lose_events(patch: pytest.MonkeyPatch) -> None:
    async def deaf(self: Reconciler) -> None:
        async for _ in self._parts.hypervisor.hints():
            pass

    patch.setattr(Reconciler, "_listen", deaf)


def lose_wakes(patch: pytest.MonkeyPatch) -> None:
    """What an event tells is kept, but nobody looks."""
    listen = Reconciler._listen

    async def sleepy(self: Reconciler) -> None:
        patch.setattr(self, "wake", lambda: None)
        await listen(self)

    patch.setattr(Reconciler, "_listen", sleepy)


def found(kinds: set[str]) -> Finding:
    for outcome in search(PLANTED_STEPS, of_one=PLANTED_SCRIPT):
        if outcome.finding is not None:
            assert outcome.finding.violation.kind in kinds, str(outcome.finding)
            return outcome.finding
    pytest.fail("nothing was found")


@pytest.mark.parametrize(
    ("plant", "kinds"),
    [
        (swap_cap_and_admission, {"the proxy admits who is not ready"}),
        (act_on_the_busy, {"the plan breaks its own invariant"}),
        (lose_events, {"a dead guest still gets traffic"}),
        (lose_wakes, {"a dead guest still gets traffic"}),
    ],
)
def test_a_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    kinds: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    finding = found(kinds)
    assert len(finding.script.steps) <= SHORT, str(finding)
    again = tried(finding.script)
    assert again is not None
    assert str(again) == str(finding.violation)
    monkeypatch.undo()
    assert tried(finding.script) is None


def test_a_script_comes_from_its_seed_alone() -> None:
    assert script_of(7, STEPS) == script_of(7, STEPS)
    assert script_of(7, STEPS) != script_of(8, STEPS)


def test_a_printed_script_can_be_pasted() -> None:
    from vmorch.model import instance, rollout, spec
    from vmorch.simulation import steps, troubles

    words = {
        name: value
        for module in (instance, rollout, spec, steps, troubles)
        for name, value in vars(module).items()
    }
    script = script_of(3, 200)
    assert eval(str(script), words) == script


def test_the_daemon_dies_at_every_point_that_its_code_names() -> None:
    assert {"start:guest", "hypervisor:paused", "network:links", "sleep:saved"} <= set(
        fault_points()
    )
