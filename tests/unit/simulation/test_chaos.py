"""The whole daemon in virtual time: random lives end well, and the checks would notice if not."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmorch.simulation import chaos


@pytest.mark.parametrize("seed", range(16))
def test_a_random_life_ends_as_declared(seed: int, tmp_path: Path) -> None:
    chaos.run(seed, steps=40, directory=tmp_path)
