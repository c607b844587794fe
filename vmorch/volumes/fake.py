"""Volumes in memory: `disks` by path, each with its size and label. `calls` are the paths that
were made or grown, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vmorch.volumes.failures import lost


@dataclass(slots=True)
class FakeDisks:
    disks: dict[Path, tuple[int, str]] = field(default_factory=dict)
    calls: list[Path] = field(default_factory=list)

    async def ensure(self, path: Path, *, size_bytes: int, label: str, made: bool) -> None:
        if made and path not in self.disks:
            raise lost(path)
        old, own_label = self.disks.get(path, (0, label))
        if size_bytes > old:
            self.calls.append(path)
            self.disks[path] = (size_bytes, own_label)

    async def remove(self, path: Path) -> None:
        self.disks.pop(path, None)
