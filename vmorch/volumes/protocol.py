"""What the daemon asks of the disks behind named volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class VolumeDisks(Protocol):
    async def ensure(self, path: Path, *, size_bytes: int, label: str, made: bool) -> None:
        """Make the disk, with an empty file system of that label, if it is not there; make it
        larger if it is smaller than `size_bytes`. What is in it stays, whatever happens. No
        guest may have it meanwhile. `made`: it was there before, with data, and is never replaced
        by an empty one.

        Raises:
            VmorchError: it could not be made, is no disk of ours, or was made and is gone.
        """
        ...

    async def remove(self, path: Path) -> None:
        """Absent: fine."""
        ...
