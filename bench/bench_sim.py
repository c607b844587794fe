"""Whether the daemon keeps its promises in virtual time, whatever goes wrong.

`sim.steps`: steps taken by random scripts (users' orders, failures, crashes), one script a seed.
`sim.violations`: scripts that led to one; each is told on stderr, as short as it could be made.
`sim.rate`: steps a second.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from bench.figure import Figure
from vmorch.simulation.search import search

STEPS = 100_000


def run(steps: int = STEPS) -> Iterator[Figure]:
    began = time.perf_counter()
    taken = violations = 0
    for outcome in search(steps):
        taken += outcome.steps
        if outcome.finding is not None:
            violations += 1
            print(f"seed {outcome.seed}: {outcome.finding}", file=sys.stderr, flush=True)
    yield Figure(name="sim.steps", value=float(taken), unit="steps")
    yield Figure(name="sim.violations", value=float(violations), unit="scripts")
    yield Figure(name="sim.rate", value=taken / (time.perf_counter() - began), unit="steps/s")
