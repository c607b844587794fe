"""python -m bench [--json] [--steps N] NAME…: run the named benchmarks and print their figures."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from bench.figure import HEADER


def names() -> list[str]:
    own = Path(__file__).parent
    return sorted(p.stem.removeprefix("bench_") for p in own.glob("bench_*.py"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--steps", type=int, help="how many the simulation (sim) takes")
    parser.add_argument("names", nargs="+", metavar="NAME", choices=names(), help=str(names()))
    arguments = parser.parse_args()
    if not arguments.json:
        print(HEADER)
    for name in arguments.names:
        given = {"steps": arguments.steps} if name == "sim" and arguments.steps else {}
        for figure in importlib.import_module(f"bench.bench_{name}").run(**given):
            print(figure.line() if arguments.json else figure.row(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
