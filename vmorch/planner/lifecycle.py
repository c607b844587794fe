"""What to do about one instance: ordered tables of rules, the first that matches decides.

A purely computational module; `vmorch.planner.plan` collects what it answers. The rules are in
`running` (towards running), `leaving` (towards a stop, a pause or removal), `sleeping` (into sleep
and out of it) and `faults` (guests that are given up).
"""

from __future__ import annotations

from vmorch.model.instance import Goal
from vmorch.planner import faults, leaving, running, sleeping
from vmorch.planner.snapshot import InstanceView
from vmorch.planner.verdict import (
    NOTHING,
    Moment,
    Rule,
    Verdict,
    clear,
    force,
    leave_busy_alone,
    redo_half_start,
)

RULES: dict[Goal, tuple[Rule, ...]] = {
    Goal.RUN: (
        leave_busy_alone,
        sleeping.finish_sleep,
        sleeping.finish_wake,
        running.clear_the_crashed,
        redo_half_start,
        running.resume,
        force,
        running.adopt,
        running.note_death,
        clear,
        sleeping.wake,
        running.start,
        running.start_anew,
        faults.note_service_end,
        faults.give_up_hung,
        faults.give_up_unhealthy,
        running.tell_mishap,
        running.end_burst,
        running.admit,
        running.withdraw,
        running.forgive,
        running.tell_progress,
    ),
    Goal.STOP: (
        leave_busy_alone,
        sleeping.finish_sleep,
        sleeping.finish_wake,
        redo_half_start,
        sleeping.wake_to_stop,
        leaving.wait_for_dependants,
        leaving.wake_up,
        leaving.drain,
        leaving.shut_down,
        force,
        clear,
        leaving.rest,
    ),
    Goal.SLEEP: (
        leave_busy_alone,
        sleeping.finish_sleep,
        sleeping.finish_wake,
        redo_half_start,
        sleeping.stay_asleep,
        leaving.wait_for_dependants,
        sleeping.withhold,
        sleeping.fall_asleep,
        force,
        clear,
        leaving.rest,
    ),
    Goal.PAUSE: (
        leave_busy_alone,
        sleeping.finish_sleep,
        sleeping.finish_wake,
        redo_half_start,
        sleeping.stay_asleep,
        leaving.note_pause,
        force,
        leaving.withhold,
        leaving.suspend,
        clear,
        leaving.rest,
    ),
    Goal.REMOVE: (
        leave_busy_alone,
        sleeping.finish_sleep,
        sleeping.finish_wake,
        redo_half_start,
        sleeping.wake_to_leave,
        leaving.wait_for_dependants,
        leaving.wake_up,
        leaving.drain,
        leaving.shut_down,
        force,
        clear,
        leaving.remove,
    ),
}


def decide(view: InstanceView, moment: Moment) -> Verdict:
    """The first matching rule's answer."""
    goal = Goal.SLEEP if moment.at_rest else view.instance.goal
    for rule in RULES[goal]:
        verdict = rule(view, moment)
        if verdict is not None:
            return verdict
    return NOTHING
