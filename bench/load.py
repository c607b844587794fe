"""python -m bench.load SHAPE URL: put a load on a service that changes over time.

Says how many requests there were and how many of them failed, and exits with 1 if any has.
"""

from __future__ import annotations

import argparse
import sys

from bench import load_shapes
from bench.http_load import in_flight
from bench.load_shapes import Shape
from bench.rate_load import rate


def main(arguments: list[str]) -> int:
    given = _parser().parse_args(arguments)
    generator = rate if given.rate else in_flight
    outcome = load_shapes.run(_shape(given), generator(given.url, given.host))
    print(f"{outcome.requests} requests, {outcome.failed} failed")
    return 1 if outcome.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("shape", choices=("constant", "step", "sine"))
    parser.add_argument("url")
    parser.add_argument("--host", required=True, help="the route's host name")
    parser.add_argument("--rate", action="store_true", help="requests a second, not in flight")
    parser.add_argument("--low", type=int, default=2)
    parser.add_argument("--high", type=int, default=10, help="of steps and waves")
    parser.add_argument("--seconds", type=int, default=180, help="how long all of it takes")
    return parser


def _shape(given: argparse.Namespace) -> Shape:
    """A step takes the middle third; a wave goes up and down twice."""
    if given.shape == "constant":
        return load_shapes.constant(given.low, seconds=given.seconds)
    if given.shape == "sine":
        period = given.seconds // 2
        return load_shapes.sine(given.low, given.high, period=period, seconds=given.seconds)
    third = given.seconds // 3
    return load_shapes.step(given.low, given.high, before=third, during=third, after=third)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
