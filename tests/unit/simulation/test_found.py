"""Scripts that once led to a violation, kept as the simulation printed them."""

from __future__ import annotations

from vmorch.model.spec import DependencyCondition
from vmorch.simulation.shrink import tried
from vmorch.simulation.steps import (
    Command,
    Health,
    Scale,
    Script,
    Sketch,
    Steer,
    Up,
    Volume,
)

TWO_STARTS_WITH_ONE_VOLUME = Script(
    steps=(
        Up(
            then=30.0,
            environment="red",
            services=(Sketch(name="db", edition=2, replicas=0, volume=Volume.SHARED),),
        ),
        Up(then=5.0, environment="red", services=(Sketch(name="web", replicas=0),)),
        Up(
            then=30.0,
            environment="red",
            services=(Sketch(name="db", edition=2, replicas=0, volume=Volume.EACH),),
            canary=20,
        ),
        Scale(then=30.0, environment="red", service="db", replicas=2),
    ),
)
"""Beside the canary there were two new instances of an old revision whose volume is for one, and
both were started. From then on no plan was made any more, for any environment."""

BACK_TO_A_VOLUME_FOR_ONE = Script(
    steps=(
        Up(
            then=60.0,
            environment="green",
            services=(Sketch(name="web", volume=Volume.SHARED),),
        ),
        Up(
            then=5.0,
            environment="green",
            services=(Sketch(name="web", health=Health.NEVER, replicas=2),),
        ),
        Steer(then=30.0, environment="green", service="web", command=Command.UNDO),
    ),
)
"""A rollback kept how many instances there are, also where the old revision bears only one."""


BACK_TO_A_NEED_THAT_IS_GONE = Script(
    steps=(
        Up(
            then=30.0,
            environment="green",
            services=(
                Sketch(name="web", replicas=0, needs=(("db", DependencyCondition.HEALTHY),)),
                Sketch(name="db"),
            ),
        ),
        Up(then=5.0, environment="green", services=(Sketch(name="web", edition=2),)),
        Steer(then=5.0, environment="green", service="web", command=Command.UNDO),
    ),
)
"""A rollback waited, as its revision had, for a service that is declared no more."""


def test_two_instances_do_not_begin_with_one_volume_in_the_same_plan() -> None:
    assert_well(TWO_STARTS_WITH_ONE_VOLUME)


def test_a_rollback_has_no_more_instances_than_it_bears() -> None:
    assert_well(BACK_TO_A_VOLUME_FOR_ONE)


def test_a_rollback_waits_for_nothing_that_is_gone() -> None:
    assert_well(BACK_TO_A_NEED_THAT_IS_GONE)


def assert_well(script: Script) -> None:
    violation = tried(script)
    assert violation is None, str(violation)
