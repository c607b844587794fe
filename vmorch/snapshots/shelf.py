"""Warm snapshots as directories: `KEY/` holds `ram`, `disk.qcow2` and `snapshot.json`.

A snapshot appears by one rename of its directory, whole; drafts lie beside under names that begin
with a dot. A fork has hard links to both files in its instance's directory, and its disk stands on
one of them: a snapshot can go at any time, and come again, and the forks are left alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from vmorch import durable
from vmorch.effects import Clock
from vmorch.errors import VmorchError
from vmorch.snapshots.protocol import DISK, LENT_DISK, LENT_RAM, RAM, Lent, WarmSnapshot

# (work, arguments…) -> its result, without holding up the event loop.
Aside = Callable[..., Awaitable[Any]]

_RECORD = "snapshot.json"
_DRAFT = ".draft-"
FAILURES = 3
"""Forks that may fail one after the other before a snapshot is given up."""


class SnapshotShelf:
    """`aside` runs blocking work: in a thread, or in place where time is virtual."""

    def __init__(self, directory: Path, clock: Clock, aside: Aside = asyncio.to_thread) -> None:
        self._directory = directory
        self._aside = aside
        self._clock = clock
        self._failures: Counter[str] = Counter()
        self._given_up: Counter[str] = Counter()

    async def sweep(self) -> None:
        await self._aside(self._sweep)

    def _sweep(self) -> None:
        for left in self._directory.glob(f"{_DRAFT}*"):
            shutil.rmtree(left, ignore_errors=True)
        for place in self._directory.glob("*"):
            if _read(place) is None:
                shutil.rmtree(place, ignore_errors=True)

    async def all(self) -> Sequence[WarmSnapshot]:
        found: list[WarmSnapshot] = await self._aside(self._all)
        return found

    def _all(self) -> list[WarmSnapshot]:
        found = (_read(place) for place in self._directory.glob("[!.]*"))
        return sorted((s for s in found if s is not None), key=lambda s: s.created_at)

    async def draft(self, key: str) -> Path:
        # QEMU passes through on its way to the disks of forks.
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f"{_DRAFT}{key[:12]}-", dir=self._directory))
        place.chmod(0o711)
        return place

    async def publish(
        self, draft: Path, *, key: str, service: str, image: str, with_service: bool
    ) -> WarmSnapshot:
        work = self._aside(self._publish, draft, key, service, image, with_service)
        made: WarmSnapshot = await work
        return made

    def _publish(
        self, draft: Path, key: str, service: str, image: str, with_service: bool
    ) -> WarmSnapshot:
        (draft / RAM).chmod(0o600)
        now = self._clock.now()
        document = {
            "key": key,
            "service": service,
            "image": image,
            "with_service": with_service,
            "created_at": now,
            "sizes": {name: (draft / name).stat().st_size for name in (RAM, DISK)},
        }
        for path in draft.iterdir():
            if path.name not in {RAM, DISK}:
                path.unlink()
        (draft / _RECORD).write_text(json.dumps(document, indent=1))
        os.utime(draft / _RECORD, (now, now))
        place = self._directory / key
        if _read(place) is None:
            shutil.rmtree(place, ignore_errors=True)
            durable.publish_directory(draft, place)
        else:
            shutil.rmtree(draft, ignore_errors=True)
        self._failures.pop(key, None)
        snapshot = _read(place)
        assert snapshot is not None
        return snapshot

    async def discard(self, draft: Path) -> None:
        await self._aside(shutil.rmtree, draft, ignore_errors=True)

    async def remove(self, key: str) -> int:
        self._failures.pop(key, None)
        freed: int = await self._aside(self._remove, key)
        return freed

    def _remove(self, key: str) -> int:
        """Out of sight by one rename: half a snapshot is never seen, and of two who remove it at
        the same time one finds nothing."""
        if not self._directory.exists():
            return 0
        hidden = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self._directory))
        try:
            away = (self._directory / key).rename(hidden / key)
            files = [path.stat() for path in away.iterdir() if path.name in {RAM, DISK}]
        except FileNotFoundError:
            return 0
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
        return sum(file.st_blocks * 512 for file in files if file.st_nlink == 1)

    async def lend(self, snapshot: WarmSnapshot, directory: Path) -> Lent:
        lent = Lent(ram=directory / LENT_RAM, disk=directory / LENT_DISK)
        try:
            for own, shared in ((lent.ram, snapshot.ram), (lent.disk, snapshot.disk)):
                own.unlink(missing_ok=True)
                own.hardlink_to(shared)
            now = self._clock.now()
            os.utime(snapshot.disk.with_name(_RECORD), (now, now))
        except OSError as error:
            raise _unusable(snapshot, error.strerror or str(error)) from error
        # What is still there now was so throughout: one that goes never comes back.
        present = _read(snapshot.ram.parent)
        if present is None or present.created_at != snapshot.created_at:
            raise _unusable(snapshot, "it was made anew meanwhile")
        return lent

    def note_success(self, key: str) -> None:
        self._failures.pop(key, None)

    def note_failure(self, key: str) -> bool:
        self._failures[key] += 1
        if self._failures[key] < FAILURES:
            return False
        self._failures.pop(key)
        self._given_up[key] += 1
        return True

    def times_given_up(self, key: str) -> int:
        return self._given_up[key]


def _unusable(snapshot: WarmSnapshot, why: str) -> VmorchError:
    return VmorchError(f"The warm snapshot of '{snapshot.service}' cannot be used: {why}.")


def _read(place: Path) -> WarmSnapshot | None:
    """None: it is none, or is not whole."""
    try:
        document = json.loads((place / _RECORD).read_text())
        sizes = {name: (place / name).stat().st_size for name in (RAM, DISK)}
        if document["sizes"] != sizes:
            return None
        return WarmSnapshot(
            key=document["key"],
            service=document["service"],
            image=document["image"],
            with_service=document["with_service"],
            created_at=document["created_at"],
            used_at=(place / _RECORD).stat().st_mtime,
            ram=place / RAM,
            disk=place / DISK,
            ram_bytes=(place / RAM).stat().st_blocks * 512,
            disk_bytes=(place / DISK).stat().st_blocks * 512,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
