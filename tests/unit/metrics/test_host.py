"""The host's own use, of the kernel's files and of ones that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from vmorch.errors import VmorchError
from vmorch.metrics import host
from vmorch.metrics.host import HostSampler


class SetClock:
    """Its wall clock and the one that nobody sets go apart."""

    def __init__(self) -> None:
        self.wall = 5000.0
        self.time = 10.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


def raising(error: Exception) -> Callable[[], Any]:
    def broken() -> Any:
        raise error

    return broken


def test_busy_processors_are_of_the_time_that_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, busy = SetClock(), iter([100.0, 103.0])
    monkeypatch.setattr(host, "_busy_seconds", lambda: next(busy))
    sampler = HostSampler(clock)
    first = sampler.measure()
    assert (first.busy_cpus, first.at) == (None, 5000.0)
    assert first.memory_bytes > first.available_bytes > 0
    clock.time, clock.wall = 12.0, 40.0
    second = sampler.measure()
    assert (second.busy_cpus, second.at) == (1.5, 40.0)


def test_what_the_kernel_has_counted_of_this_host() -> None:
    assert HostSampler(SetClock()).measure().cpus > 0
    assert host._busy_seconds() > 0


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), ValueError("no number"), KeyError("MemTotal")]
)
@pytest.mark.parametrize("call", ["cpu_times", "virtual_memory"])
def test_files_that_cannot_be_read_are_an_error_of_ours(
    call: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, call, raising(error))
    with pytest.raises(VmorchError, match="What the host uses"):
        HostSampler(SetClock()).measure()


def test_a_kernel_that_merges_no_pages_has_saved_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_KSM", tmp_path / "none")
    assert HostSampler(SetClock()).measure().merged_bytes == 0
