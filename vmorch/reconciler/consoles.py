"""What a guest's kernel says on its console about memory that ran out.

The service may be back before any check has failed, and nothing but this line tells what happened.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vmorch.model.instance import Instance

READ_BYTES = 256 * 1024
"""Of what is new in one look; the rest of a console that floods is passed over."""

# mm/oom_kill.c: "Out of memory: Killed process 77 (serve) total-vm:…", and the same of a cgroup.
_KILLED = re.compile(rb"[Oo]ut of memory: Killed process \d+ \(([^)]{1,15})\)")

TOLD_SECONDS = 600.0
"""How long it is told beside whatever else the instance has to say."""

Boot = tuple[str, str, int]


@dataclass(slots=True)
class _Kills:
    counts: Counter[str] = field(default_factory=Counter)
    last_at: float = 0.0


class Consoles:
    """Reads each console log from where it was when it was first seen."""

    def __init__(self) -> None:
        self._read: dict[Path, int] = {}
        self._kills: dict[Boot, _Kills] = {}

    def look(self, instances: Iterable[tuple[Instance, Path]], now: float) -> dict[Boot, str]:
        """What happened lately, for people. Blocking, but of files that were just written."""
        read, kills = self._read, self._kills
        self._read, self._kills = {}, {}
        for instance, log in instances:
            boot = (instance.environment, instance.name, instance.boot)
            known = self._kills[boot] = kills.get(boot, _Kills())
            try:
                victims, self._read[log] = _victims(log, read.get(log))
            except OSError:
                continue
            if victims:
                known.counts.update(victims)
                known.last_at = now
        return {
            boot: _words(known.counts)
            for boot, known in self._kills.items()
            if known.counts and now < known.last_at + TOLD_SECONDS
        }


def _words(counts: Counter[str]) -> str:
    names = ", ".join(
        f"'{name}'" + (f" ({count} times)" if count > 1 else "")
        for name, count in counts.most_common()
    )
    return f"out of memory: the guest's kernel killed {names}"


def _victims(log: Path, before: int | None) -> tuple[list[str], int]:
    """Whom the lines after `before` name (None: only look where it ends), and where they end."""
    size = log.stat().st_size
    if before is None or before == size:
        return [], size
    # Shorter than what we have read: it was turned over.
    start = max(before if before < size else 0, size - READ_BYTES)
    with log.open("rb") as file:
        file.seek(start)
        text = file.read(size - start)
    whole = text[: text.rfind(b"\n") + 1]
    names = [name.decode(errors="replace") for name in _KILLED.findall(whole)]
    return ["".join(filter(str.isprintable, name)) for name in names], start + len(whole)
