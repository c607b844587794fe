"""Runs scripts from many seeds, and shortens those that fail."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from vmorch.simulation.script import script_of
from vmorch.simulation.shrink import Finding, shrunk, tried

STEPS_OF_ONE = 250
"""The length of a script: long enough for much to have gone wrong at once, short enough for many
beginnings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of the script with that seed and so many steps; `finding` None: all is well."""

    seed: int
    steps: int
    finding: Finding | None


def search(steps: int, *, first_seed: int = 0, of_one: int = STEPS_OF_ONE) -> Iterator[Outcome]:
    """Take so many steps in all, seed after seed."""
    quiet()
    for seed in range(first_seed, first_seed + -(-steps // of_one)):
        count = min(of_one, steps - (seed - first_seed) * of_one)
        yield outcome_of(seed, count)


def outcome_of(seed: int, steps: int) -> Outcome:
    script = script_of(seed, steps)
    violation = tried(script)
    finding = None if violation is None else shrunk(script, violation)
    return Outcome(seed=seed, steps=steps, finding=finding)


def quiet() -> None:
    """What the daemons write into their logs is not for people here."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
