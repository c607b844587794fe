"""One step of a build -> one layer: found by its key, or written and published."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vmorch.effects import Clock, Entropy, Faults
from vmorch.errors import BuildFailed
from vmorch.images.layers import LayerRecord, LayerStore, rebuilt_digest
from vmorch.images.story import Chapter
from vmorch.images.worker.job import CopyAction, Job, RunAction
from vmorch.images.workshop import Outcome, write_layer

WORK_PREFIX = "layer-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What the worker does. `source_disk` is the layer that COPY --from reads."""

    copy: CopyAction | None = None
    run: RunAction | None = None
    source_disk: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A layer to have. `prepare` gives the action, and is called only when it must be written.
    `fresh`: write it even if one of the same key is there. `file` and `line` are for messages."""

    key: str
    parent: LayerRecord
    text: str
    file: str
    line: int
    directories: tuple[str, ...]
    fresh: bool
    prepare: Callable[[], Awaitable[Action]]


@dataclass(slots=True)
class _Lock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class LayerWriter:
    """Shared by all builds of a daemon: two that need one layer at once do the work once."""

    def __init__(
        self,
        store: LayerStore,
        *,
        clock: Clock,
        entropy: Entropy,
        faults: Faults,
        limit_seconds: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._faults = faults
        self._limit_seconds = limit_seconds
        self._locks: dict[str, _Lock] = {}
        self._places = asyncio.Semaphore(max(2, os.cpu_count() or 1))

    async def layer(self, assignment: Assignment, chapter: Chapter) -> LayerRecord:
        """Raises BuildFailed, and what `prepare` raises."""
        async with self._only_one(assignment.key):
            if not assignment.fresh:
                found = await asyncio.to_thread(self._store.find, assignment.key)
                if found is not None:
                    chapter.cached()
                    return found
            async with self._places:
                return await self._write(assignment, chapter)

    @asynccontextmanager
    async def _only_one(self, key: str) -> AsyncIterator[None]:
        entry = self._locks.setdefault(key, _Lock())
        entry.users += 1
        try:
            async with entry.lock:
                yield
        finally:
            entry.users -= 1
            if not entry.users:
                del self._locks[key]

    async def _write(self, assignment: Assignment, chapter: Chapter) -> LayerRecord:
        began = self._clock.now()
        action = await assignment.prepare()
        async with self._work() as work:
            await self._faults.at("image.layer.begin")
            disk = await asyncio.to_thread(self._store.create_overlay, work, assignment.parent)
            job = Job(
                parent=os.getpid(),
                disk=str(disk),
                backing=str(self._store.path(assignment.parent.digest)),
                source_disk=action.source_disk,
                work=str(work),
                directories=assignment.directories,
                copy=action.copy,
                run=action.run,
            )
            outcome = await write_layer(
                job, say=chapter.say, limit_seconds=self._limit_seconds, faults=self._faults
            )
            self._judge(outcome, assignment)
            await self._faults.at("image.layer.publish")
            record = self._record(assignment, seconds=self._clock.now() - began)
            published = await asyncio.to_thread(self._store.publish, disk, record)
        await self._faults.at("image.layer.published")
        return published

    def _record(self, assignment: Assignment, *, seconds: float) -> LayerRecord:
        digest = assignment.key
        if self._store.is_taken(digest):
            digest = rebuilt_digest(digest, self._entropy.random_bytes(16).hex())
        return LayerRecord(
            digest=digest,
            key=assignment.key,
            parent=assignment.parent.digest,
            created_by=assignment.text,
            size_bytes=0,
            virtual_size_bytes=assignment.parent.virtual_size_bytes,
            created_at=self._clock.now(),
            seconds=seconds,
        )

    @asynccontextmanager
    async def _work(self) -> AsyncIterator[Path]:
        work = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=self._store.temporary))
        try:
            yield work
        finally:
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)

    def _judge(self, outcome: Outcome, assignment: Assignment) -> None:
        """Raises BuildFailed unless the layer is good."""
        message, hint = "", "Correct the instruction and build again."
        if outcome.timed_out:
            message = f"it took more than {self._limit_seconds:.0f} s and was ended"
            hint = "Make the step shorter, or split it."
        elif outcome.error:
            message = outcome.error
            if outcome.bug:
                hint = "This is a mistake in vmorch; report it with the output of 'vmorch version'."
        elif outcome.exit_code:
            message = f"the command ended with code {outcome.exit_code}"
            hint = "Its last output is above."
        elif "closed" not in outcome.phases:
            message = "the builder's worker ended before the layer was written"
        if message:
            raise BuildFailed(
                f"{assignment.file}:{assignment.line}: {assignment.text}: {message}.",
                hint=hint,
                file=assignment.file,
                line=assignment.line,
                output=outcome.tail,
            )
