"""Makes a failing script short: what is left out of it is not needed for that violation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vmorch.simulation.life import live
from vmorch.simulation.steps import Script
from vmorch.simulation.watch import Violation

Run = Callable[[Script], Violation | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A script that leads to a violation. As text, it can be pasted into a test."""

    script: Script
    violation: Violation

    def __str__(self) -> str:
        return f"{self.violation}\n{self.script}"


def tried(script: Script) -> Violation | None:
    """What comes of a script; None: all is well."""
    with tempfile.TemporaryDirectory(dir=_memory_disk()) as directory:
        try:
            live(script, Path(directory))
        except Violation as violation:
            return violation
    return None


def _memory_disk() -> str | None:
    """The few files of a world are written and forgotten at once."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def shrunk(script: Script, violation: Violation, run: Run = tried) -> Finding:
    """The shortest script found by leaving out steps, half of them at once and then ever fewer
    (delta debugging), that still leads to a violation of the same kind."""
    best = Finding(script=script, violation=violation)
    size = max(1, len(script.steps) // 2)
    while True:
        smaller = _without_some(best, size, run)
        if size == 1 and smaller is best:
            return best
        size = max(1, size // 2)
        best = smaller


def _without_some(best: Finding, size: int, run: Run) -> Finding:
    """Without each piece of that size that is not needed, from the end on."""
    end = len(best.script.steps)
    while end > 0:
        start = max(0, end - size)
        steps = best.script.steps
        shorter = replace(best.script, steps=steps[:start] + steps[end:])
        found = run(shorter)
        if found is not None and found.kind == best.violation.kind:
            best = Finding(script=shorter, violation=found)
        end = start
    return best
