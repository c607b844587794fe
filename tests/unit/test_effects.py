"""The system's own clock, behind its port."""

from __future__ import annotations

import time

import pytest

from vmorch.effects import SystemClock


def test_a_wall_clock_that_is_set_moves_no_monotonic_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    before = clock.monotonic()
    monkeypatch.setattr(time, "time", lambda: 7.0)
    assert clock.now() == 7.0
    assert 0 <= clock.monotonic() - before < 60
