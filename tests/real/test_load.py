"""Loads that change over time, by the real generators, on a server on loopback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from proxy_world import Site

from bench import load, load_shapes
from bench.http_load import in_flight
from bench.load_shapes import Generator
from bench.rate_load import rate

WAVE = load_shapes.sine(2, 8, period=4, seconds=4, every=1)


@pytest.fixture
def url() -> Iterator[str]:
    with closing(Site("web-1", 1)) as site:
        yield f"http://127.0.0.1:{site.port}/"


@pytest.mark.parametrize("generator", [in_flight, rate])
def test_a_wave_loses_nothing_on_its_way_up_and_down(
    url: str, generator: Callable[[str, str], Generator]
) -> None:
    outcome = load_shapes.run(WAVE, generator(url, "web.localhost"))
    assert outcome.requests > 0
    assert outcome.failed == 0
    if generator is rate:
        # Each run of hey begins with a request of each of its workers.
        first = sum(layer.amount for layer in load_shapes.layers(WAVE))
        assert outcome.requests <= first + sum(s.amount * s.seconds for s in WAVE)


def test_the_command_says_what_came_of_it(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["constant", url, "--host", "web.localhost", "--rate", "--low", "4", "--seconds", "2"]
    assert load.main(words) == 0
    requests, _, failed, _ = capsys.readouterr().out.split()
    assert (int(requests) > 0, failed) == (True, "0")
    closed = load.main(["constant", "http://127.0.0.1:9/", *words[2:]])
    assert closed == 1
