"""One step of a build -> one layer: found by its key, or written and published."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from vmorch.effects import Clock, Entropy, Faults
from vmorch.errors import BuildFailed
from vmorch.images import keys, qcow2
from vmorch.images.layers import LayerRecord, LayerStore, rebuilt_digest
from vmorch.images.stepgroups import StepGroups
from vmorch.images.story import Chapter
from vmorch.images.worker.job import CopyAction, Job, RunAction, Volume
from vmorch.images.workshop import Outcome, Workers

WORK_PREFIX = "layer-"

# Each file of a chain costs whoever opens it about 1 ms, and memory: a small step over 32 layers
# takes a quarter longer than over one.
DEEPEST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What the worker does. `sources` are the images that it reads; `hidden` are texts that must
    not be shown when the step prints them."""

    copy: CopyAction | None = None
    run: RunAction | None = None
    sources: tuple[Volume, ...] = ()
    hidden: tuple[str, ...] = field(default=(), repr=False)


# Gives the action, and puts on the stack what it needs while it runs.
Prepare = Callable[[AsyncExitStack], Awaitable[Action]]


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
    prepare: Prepare


@dataclass(slots=True)
class _Lock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class LayerWriter:
    """Shared by all builds of a daemon: two that need one layer at once do the work once."""

    def __init__(
        self,
        store: LayerStore,
        workers: Workers,
        *,
        clock: Clock,
        entropy: Entropy,
        faults: Faults,
        limit_seconds: float,
        groups: StepGroups | None = None,
    ) -> None:
        self._store = store
        self._workers = workers
        self._clock = clock
        self._entropy = entropy
        self._faults = faults
        self.limit_seconds = limit_seconds
        self._groups = groups
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
        async with AsyncExitStack() as held, self._work() as work:
            action = await assignment.prepare(held)  # may wait long: for a cache, for a server
            await held.enter_async_context(self._places)
            await self._faults.at("image.layer.begin")
            disk = await asyncio.to_thread(self._store.create_overlay, work, assignment.parent)
            job = Job(
                parent=os.getpid(),
                disk=self._store.volume(assignment.parent, disk),
                backing=str(self._store.path(assignment.parent.digest)),
                sources=action.sources,
                work=str(work),
                directories=assignment.directories,
                copy=action.copy,
                run=action.run,
            )
            outcome = await self._done(job, action, chapter)
            self._judge(outcome, assignment)
            await self._faults.at("image.layer.publish")
            record = self._record(assignment, seconds=self._clock.now() - began)
            published = await asyncio.to_thread(self._store.publish, disk, record)
        await self._faults.at("image.layer.published")
        return published

    async def _done(self, job: Job, action: Action, chapter: Chapter) -> Outcome:
        async with AsyncExitStack() as stack:
            group = None
            if job.run is not None and self._groups is not None:
                group = await stack.enter_async_context(self._groups.step())
                job = replace(job, run=replace(job.run, groups=group.entrances))
            outcome = await self._workers.do(
                job,
                say=chapter.say,
                hidden=action.hidden,
                limit_seconds=self.limit_seconds,
                faults=self._faults,
            )
            outcome.exceeded = group.exceeded() if group else ""
        if outcome.exceeded and not outcome.failure(self.limit_seconds)[0]:
            chapter.say(f"({outcome.exceeded}, and went on without)")
        return outcome

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
            offset_bytes=assignment.parent.offset_bytes,
            length_bytes=assignment.parent.length_bytes,
            file_system=assignment.parent.file_system,
            sector_bytes=assignment.parent.sector_bytes,
            depth=assignment.parent.depth + 1,
        )

    async def shallow(self, top: LayerRecord) -> tuple[LayerRecord, bool]:
        """`top`, or when it lies too deep, one layer over its base that holds the same; and
        whether that was written just now.

        Raises:
            VmorchError: there is no room.
        """
        if top.depth < DEEPEST:
            return top, False
        key = keys.flat_key(top.digest)
        async with self._only_one(key):
            found = await asyncio.to_thread(self._store.find, key)
            if found is not None:
                return found, False
            async with self._places, self._work() as work:
                disk = work / "layer.qcow2"
                record = await asyncio.to_thread(self._flattened, top, key, disk)
                await self._faults.at("image.layer.flattened")
                return await asyncio.to_thread(self._store.publish, disk, record), True

    def _flattened(self, top: LayerRecord, key: str, disk: Path) -> LayerRecord:
        began, chain = self._clock.now(), self._store.chain(top.digest)
        base = chain[0]
        qcow2.flatten(self._store.path(top.digest), self._store.path(base.digest), disk)
        taken = self._store.is_taken(key)
        salt = self._entropy.random_bytes(16).hex()
        return replace(
            top,
            digest=rebuilt_digest(key, salt) if taken else key,
            key=key,
            parent=base.digest,
            created_by=f"{len(chain) - 1} layers as one, the last: {top.created_by}",
            created_at=began,
            seconds=self._clock.now() - began,
            depth=1,
        )

    @asynccontextmanager
    async def _work(self) -> AsyncIterator[Path]:
        work = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=self._store.temporary))
        try:
            yield work
        finally:
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)

    def _judge(self, outcome: Outcome, assignment: Assignment) -> None:
        """Raises BuildFailed unless the layer is good. Called while its files are still there: a
        full disk shows in a step as whatever it makes of it, and in a layer as an I/O error."""
        message, hint = outcome.failure(self.limit_seconds)
        if message and self._store.is_full():
            message = f"there is no room left on the disk of {self._store.directory.parent}"
            hint = "Make room: 'vmorch image prune --all' removes what nobody needs, and caches."
        if message:
            raise BuildFailed(
                f"{assignment.file}:{assignment.line}: {assignment.text}: {message}.",
                hint=hint,
                file=assignment.file,
                line=assignment.line,
                output=outcome.tail,
            )

    async def content(self, source: LayerRecord, paths: tuple[str, ...]) -> str:
        """The digest of files in an image, by a worker that mounts it; remembered for ever, as
        layers never change.

        Raises:
            BuildFailed: a path is not there, or the image cannot be read.
        """
        question = keys.digest_of([source.digest, paths])
        known = await asyncio.to_thread(self._store.known_content, question)
        if known:
            return known
        async with self._only_one(question), self._places, self._work() as work:
            job = Job(
                parent=os.getpid(),
                disk=None,
                backing="",
                sources=(self._store.volume(source),),
                work=str(work),
                digest=paths,
            )
            outcome = await self._workers.do(
                job,
                say=lambda line: None,
                limit_seconds=self.limit_seconds,
                faults=self._faults,
            )
        message, hint = outcome.failure(self.limit_seconds)
        if message:
            raise BuildFailed(message, hint=hint)
        await self._faults.at("image.content")
        await asyncio.to_thread(self._store.note_content, question, outcome.content)
        return outcome.content
