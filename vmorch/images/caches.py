"""Directories of `RUN --mount=type=cache`: kept between builds, shared by all of them.

cache/<hex of the id>[-N]/data     N counts further ones that `private` steps use meanwhile
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vmorch.images.dockerfile.steps import MountStep


@dataclass(slots=True)
class _Lock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class CacheStore:
    """One for all builds of a daemon: it knows which caches are in use."""

    def __init__(self, images_dir: Path, *, temporary: Path) -> None:
        self._directory = images_dir / "cache"
        self._temporary = temporary
        self._users: Counter[str] = Counter()
        self._locks: dict[str, _Lock] = {}

    def prepare(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @asynccontextmanager
    async def use(self, mount: MountStep) -> AsyncIterator[Path]:
        """The directory of a cache, for as long as the step runs. `locked` waits for others."""
        name = hashlib.sha256(mount.name.encode()).hexdigest()
        async with contextlib.AsyncExitStack() as stack:
            if mount.sharing == "locked":
                await stack.enter_async_context(self._only_one(name))
            if mount.sharing == "private":
                name = self._unused(name)
            self._users[name] += 1
            stack.callback(self._leave, name)
            yield await asyncio.to_thread(self._made, name, mount)

    @asynccontextmanager
    async def _only_one(self, name: str) -> AsyncIterator[None]:
        entry = self._locks.setdefault(name, _Lock())
        entry.users += 1
        try:
            async with entry.lock:
                yield
        finally:
            entry.users -= 1
            if not entry.users:
                del self._locks[name]

    def _unused(self, name: str) -> str:
        number, candidate = 0, name
        while self._users[candidate]:
            number += 1
            candidate = f"{name}-{number}"
        return candidate

    def _leave(self, name: str) -> None:
        self._users[name] -= 1

    def _made(self, name: str, mount: MountStep) -> Path:
        data = self._directory / name / "data"
        if not data.exists():
            data.parent.mkdir(mode=0o700, exist_ok=True)
            fresh = data.with_name("new")  # half of it is left by a crash: made again
            fresh.mkdir(exist_ok=True)
            os.chown(fresh, mount.uid, mount.gid)
            fresh.chmod(mount.mode)
            fresh.rename(data)
        os.utime(data.parent)
        return data

    def collect(self, *, unused_since: float) -> int:
        """Remove caches that no step has used since then; returns bytes. From the event loop's
        own thread, so that none comes into use meanwhile."""
        freed = 0
        for path in self._directory.iterdir():
            if not self._users[path.name] and path.stat().st_mtime < unused_since:
                going = self._temporary / f"layer-cache-{path.name}"
                path.rename(going)
                freed += sum(f.lstat().st_blocks * 512 for f in going.rglob("*"))
                shutil.rmtree(going, ignore_errors=True)
        return freed
