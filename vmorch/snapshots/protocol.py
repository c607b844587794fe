"""What the daemon asks of the store of warm snapshots. `shelf.py` answers with files, and needs
no fake: it starts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

RAM = "ram"
DISK = "disk.qcow2"
"""The files of a draft and of a snapshot."""
LENT_RAM = "frozen.ram"
LENT_DISK = "frozen.qcow2"
"""What a fork has of them in its instance's directory: the RAM until it runs, the disk for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """RAM and disk of one and the same snapshot, whatever becomes of it."""

    ram: Path
    disk: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmSnapshot:
    """The RAM and disk of one booted, ready, anonymous instance.

    `key` is the digest of all that it depends on. `ram` is for root alone, `disk` is read by
    every fork's QEMU and written by nobody. `with_service`: the service ran in it. `used_at` is
    when the last fork began, or else when it was made.
    """

    key: str
    service: str
    image: str
    with_service: bool
    created_at: float
    used_at: float
    ram: Path
    disk: Path
    ram_bytes: int
    disk_bytes: int


class Snapshots(Protocol):
    async def sweep(self) -> None:
        """Take away what an earlier process left unfinished. Before the first draft only."""
        ...

    async def all(self) -> Sequence[WarmSnapshot]:
        """The whole ones, oldest first."""
        ...

    async def draft(self, key: str) -> Path:
        """An empty directory for the disk (DISK) and the RAM (RAM) of a new one."""
        ...

    async def publish(
        self, draft: Path, *, key: str, service: str, image: str, with_service: bool
    ) -> WarmSnapshot:
        """Make a finished draft one of `all`, whole and for good. Its disk is shared as it is."""
        ...

    async def discard(self, draft: Path) -> None: ...

    async def remove(self, key: str) -> int:
        """The bytes that this freed. Absent already: fine. Forks that live keep its disk."""
        ...

    async def lend(self, snapshot: WarmSnapshot, directory: Path) -> Lent:
        """Its RAM and disk, under names of their own in an instance's directory.

        Raises:
            VmorchError: the snapshot is gone, another one is in its place, or it lies on another
                file system.
        """
        ...

    def note_success(self, key: str) -> None:
        """A fork of it is who it should be: what failed before is forgotten."""
        ...

    def note_failure(self, key: str) -> bool:
        """A fork of it failed; True: that was once too often, it should be removed."""
        ...

    def times_given_up(self, key: str) -> int:
        """How often one of that key had to be removed for its failures, as far as is known."""
        ...
