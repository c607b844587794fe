"""Builds images: stages of a Dockerfile -> layers in the store -> what the manifest says.

Stages that do not need each other are built side by side; a stage that the target does not need
is not built. Each step is found by its key or written (`writer.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from vmorch.effects import Clock
from vmorch.errors import BuildFailed, InvalidSpec, NotFound, SpecProblem, VmorchError
from vmorch.images import keys
from vmorch.images.blobs import BlobStore
from vmorch.images.caches import CacheStore
from vmorch.images.dockerfile.instructions import (
    Instruction,
    Stage,
    Workdir,
)
from vmorch.images.dockerfile.mistakes import did_you_mean
from vmorch.images.dockerfile.parse import parse
from vmorch.images.dockerfile.stage import (
    EPOCH,
    PROXY_ARGS,
    StageState,
    global_variables,
    with_bases,
)
from vmorch.images.dockerfile.steps import CopyStep, DirectoryStep, RunStep
from vmorch.images.dockerfile.words import BadWord, Substitution
from vmorch.images.graph import (
    declared_arguments,
    host_platform,
    needed_stages,
    parent_stage,
    sources_of,
    step_lines,
)
from vmorch.images.layers import LayerRecord, LayerStore
from vmorch.images.protocol import BuildRequest, Progress
from vmorch.images.recipes import Recipes, ready
from vmorch.images.selection import Context, check_entries
from vmorch.images.stepnet import LazyNetwork
from vmorch.images.story import Chapter, Story
from vmorch.images.writer import Action, Assignment, LayerWriter, Prepare
from vmorch.model.image import BootConfig, ImageManifest, RunConfig


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage came to; `base` is the name of the base at its bottom, `args` are what the
    stages upon it inherit."""

    top: LayerRecord
    run: RunConfig
    boot: BootConfig
    base: str
    args: dict[str, str] = field(default_factory=dict)


# A reference that is no stage (and whether to renew it) -> the image.
EnsureImage = Callable[[str, bool], Awaitable[ImageManifest]]


class Build:
    """One request. `run` may be called once; `written` then has the layers that it wrote."""

    def __init__(
        self,
        request: BuildRequest,
        progress: Progress,
        *,
        store: LayerStore,
        blobs: BlobStore,
        caches: CacheStore,
        writer: LayerWriter,
        network: LazyNetwork,
        ensure: EnsureImage,
        clock: Clock,
    ) -> None:
        self._request = request
        self._store = store
        self._writer = writer
        self._ensure = ensure
        self._file = request.dockerfile_name
        dockerfile = parse(request.dockerfile, self._file)
        self._globals = global_variables(dockerfile, request.args, host_platform())
        self._dockerfile = with_bases(dockerfile, self._globals)
        self._target = self._find_target()
        stages = needed_stages(self._dockerfile, self._target)
        self._story = Story(progress, clock, [line for s in stages for line in step_lines(s)])
        if problem := check_entries(request.context):
            raise InvalidSpec([SpecProblem(self._file, 0, 0, "", f"the context: {problem}")])
        self._recipes = Recipes(
            Context(request.context),
            request.secrets,
            store=store,
            blobs=blobs,
            caches=caches,
            writer=writer,
            network=network,
        )
        self._tasks: dict[int, asyncio.Task[StageResult]] = {}
        self.written: set[str] = set()

    async def run(self) -> StageResult:
        """Raises InvalidSpec, BuildFailed, NotFound, UsageError, NetworkError."""
        try:
            async with asyncio.TaskGroup() as group:
                result = await self._stage(self._target, group)
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        return result

    def _find_target(self) -> Stage:
        wanted = self._request.target
        if wanted is None:
            return self._dockerfile.stages[-1]
        stage = self._dockerfile.stage(wanted)
        if stage is None:
            names = [s.base.name for s in self._dockerfile.stages if s.base.name]
            message = f"there is no stage '{wanted}'{did_you_mean(wanted, names)}"
            raise InvalidSpec([SpecProblem(self._file, 0, 0, "target", message)])
        return stage

    @contextmanager
    def _problems_of(self, instruction: Instruction) -> Iterator[None]:
        try:
            yield
        except BadWord as error:
            raise InvalidSpec([self._problem(instruction, error)]) from error

    def _problem(self, instruction: Instruction, error: Exception) -> SpecProblem:
        keyword = instruction.text.split(maxsplit=1)[0].upper()
        return SpecProblem(self._file, instruction.line, 1, keyword, str(error))

    def _stage(self, stage: Stage, group: asyncio.TaskGroup) -> asyncio.Task[StageResult]:
        """The one task that builds this stage, begun at the first call."""
        if stage.index not in self._tasks:
            work = self._build_stage(stage, group)
            self._tasks[stage.index] = group.create_task(work, name=f"build {stage.title}")
        return self._tasks[stage.index]

    async def _build_stage(self, stage: Stage, group: asyncio.TaskGroup) -> StageResult:
        for source in sources_of(self._dockerfile, stage):
            self._stage(source, group)
        base = await self._base(stage, group)
        self._check_values(stage, base)
        state = self._state(base)
        top, directories = base.top, list[str]()
        for instruction in stage.instructions:
            with self._problems_of(instruction):
                step = state.apply(instruction)
                match step:
                    case DirectoryStep():
                        directories.append(step.path)
                    case RunStep() | CopyStep():
                        made = tuple(directories)
                        top = await self._shallow(top)
                        top = await self._layer(step, instruction, top, made, group)
                        directories.clear()
        if directories and directories != ["/"]:
            last = next(i for i in reversed(stage.instructions) if isinstance(i, Workdir))
            top = await self._directories(last, top, tuple(directories))
        return StageResult(top, state.run, base.boot, base.base, state.args)

    async def _shallow(self, top: LayerRecord) -> LayerRecord:
        layer, was_written = await self._writer.shallow(top)
        if was_written:
            self.written.add(layer.digest)
        return layer

    def _state(self, base: StageResult) -> StageState:
        return StageState(
            base.run,
            args=base.args,
            global_args=self._globals,
            build_args=self._request.args,
            escape=self._dockerfile.escape,
        )

    def _check_values(self, stage: Stage, base: StageResult) -> None:
        """All mistakes in values, and in names of files, before the first step is begun."""
        state, problems = self._state(base), []
        for instruction in stage.instructions:
            try:
                step = state.apply(instruction)
                self._recipes.check(step)
            except BadWord as error:
                problems.append(self._problem(instruction, error))
        if problems:
            raise InvalidSpec(problems, hint=f"Correct {self._file} and build again.")

    async def _base(self, stage: Stage, group: asyncio.TaskGroup) -> StageResult:
        with self._story.chapter(stage.base.line, stage.base.text) as chapter:
            parent = parent_stage(self._dockerfile, stage)
            if stage is self._target:
                for line in self._unused_arguments():
                    chapter.say(line)
            if parent is not None:
                return await self._stage(parent, group)
            with self._problems_of(stage.base):
                reference = self._reference(stage)
            return await self._image(reference, stage.base, pull=self._request.pull)

    def _reference(self, stage: Stage) -> str:
        substitution = Substitution(self._globals, self._dockerfile.escape)
        ours = self._globals["TARGETPLATFORM"]
        wanted = substitution.word(stage.base.platform) or ours
        if wanted != ours:
            raise BadWord(f"--platform={wanted}: this host builds and runs {ours}")
        reference = stage.base.image
        if not reference:
            raise BadWord("the image's name is empty: give the ARG before FROM a value")
        if reference == "scratch":
            raise BadWord("a virtual machine needs a kernel: FROM debian:12, for instance")
        return reference

    async def _image(self, reference: str, instruction: Instruction, *, pull: bool) -> StageResult:
        try:
            image = await self._ensure(reference, pull)
        except NotFound as error:
            names = [s.base.name for s in self._dockerfile.stages if s.base.name]
            close = did_you_mean(reference, names)
            missing = BadWord(f"there is no image '{reference}'{close}")
            raise InvalidSpec([self._problem(instruction, missing)], hint=error.hint) from error
        top = await asyncio.to_thread(self._store.record, image.layers[-1].digest)
        if top is None:
            raise VmorchError(f"The top layer of '{reference}' is missing.", hint="Build it again.")
        return StageResult(top, image.run, image.boot, image.base)

    def _unused_arguments(self) -> list[str]:
        declared = {name for arg in self._dockerfile.global_args for name, _ in arg.values}
        for stage in self._dockerfile.stages:
            declared |= declared_arguments(stage)
        known = declared | PROXY_ARGS | {EPOCH} | host_platform().keys()
        return [
            f"the build argument {name} is used by no ARG{did_you_mean(name, declared)}"
            for name in self._request.args
            if name not in known
        ]

    async def _layer(
        self,
        step: RunStep | CopyStep,
        instruction: Instruction,
        parent: LayerRecord,
        directories: tuple[str, ...],
        group: asyncio.TaskGroup,
    ) -> LayerRecord:
        with self._story.chapter(instruction.line, instruction.text) as chapter:

            async def source(reference: str) -> LayerRecord:
                return await self._source(reference, instruction, group)

            with self._place_of(instruction):
                key, prepare = await self._recipes.of(
                    step, parent, directories, source=source, say=chapter.say
                )
                assignment = self._assignment(instruction, key, parent, directories, prepare)
                return await self._have(assignment, chapter)

    async def _have(self, assignment: Assignment, chapter: Chapter) -> LayerRecord:
        layer = await self._writer.layer(assignment, chapter)
        if not chapter.is_cached:
            self.written.add(layer.digest)
        return layer

    @contextmanager
    def _place_of(self, instruction: Instruction) -> Iterator[None]:
        """A failure that does not know its instruction is told of it."""
        try:
            yield
        except BuildFailed as error:
            if error.file:
                raise
            raise BuildFailed(
                f"{self._file}:{instruction.line}: {instruction.text}: {error.message}.",
                hint=error.hint,
                file=self._file,
                line=instruction.line,
            ) from error

    async def _source(
        self, reference: str, instruction: Instruction, group: asyncio.TaskGroup
    ) -> LayerRecord:
        stage = self._dockerfile.stage(reference)
        if stage is not None:
            return (await self._stage(stage, group)).top
        return (await self._image(reference, instruction, pull=False)).top

    async def _directories(
        self, instruction: Instruction, parent: LayerRecord, directories: tuple[str, ...]
    ) -> LayerRecord:
        with self._story.chapter(instruction.line, instruction.text) as chapter:
            key = keys.directory_key(parent.digest, directories)
            prepare = ready(Action())
            assignment = self._assignment(instruction, key, parent, directories, prepare)
            return await self._have(assignment, chapter)

    def _assignment(
        self,
        instruction: Instruction,
        key: str,
        parent: LayerRecord,
        directories: tuple[str, ...],
        prepare: Prepare,
    ) -> Assignment:
        return Assignment(
            key=key,
            parent=parent,
            text=instruction.text,
            file=self._file,
            line=instruction.line,
            directories=directories,
            fresh=self._request.no_cache,
            prepare=prepare,
        )


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the group; the others are its consequences or come second."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
