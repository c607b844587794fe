"""python -m vmorch.simulation [--seed N] [--steps N] [--scripts N]: run scripts, tell what fails.

A failing script is printed as short as it could be made. The same seed and number of steps give
the same script again, as long as the simulation's code is the same; a printed one is kept by
pasting it into tests/unit/simulation/test_found.py.
"""

from __future__ import annotations

import argparse
import sys

from vmorch.simulation.search import STEPS_OF_ONE, search


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m vmorch.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the first script")
    parser.add_argument("--scripts", type=int, default=1, help="how many, one seed each")
    parser.add_argument("--steps", type=int, default=STEPS_OF_ONE, help="of each script")
    given = parser.parse_args()
    failed = False
    total = given.steps * given.scripts
    for outcome in search(total, first_seed=given.seed, of_one=given.steps):
        failed = failed or outcome.finding is not None
        told = outcome.finding or "well"
        sys.stdout.write(f"seed {outcome.seed}, {outcome.steps} steps: {told}\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
