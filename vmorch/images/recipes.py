"""Resolved steps -> the key of the layer, and how to write it if it is not there."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from vmorch.errors import BuildFailed
from vmorch.images import actions, keys
from vmorch.images.blobs import BlobStore
from vmorch.images.caches import CacheStore
from vmorch.images.dockerfile.steps import CopyStep, RunStep, Step
from vmorch.images.fetching import fetched
from vmorch.images.layers import LayerRecord, LayerStore
from vmorch.images.mounting import Mounting
from vmorch.images.selection import Context
from vmorch.images.stepnet import LazyNetwork
from vmorch.images.writer import Action, LayerWriter, Prepare
from vmorch.model.stepnet import StepNetwork

# The layer on which a stage or image that a step reads from has ended.
FindSource = Callable[[str], Awaitable[LayerRecord]]
Say = Callable[[str], None]


class Recipes:
    """Those of one build. `secrets` are base64, by id."""

    def __init__(
        self,
        context: Context,
        secrets: Mapping[str, str],
        *,
        store: LayerStore,
        blobs: BlobStore,
        caches: CacheStore,
        writer: LayerWriter,
        network: LazyNetwork,
    ) -> None:
        self._context = context
        self._secrets = secrets
        self._store = store
        self._blobs = blobs
        self._caches = caches
        self._writer = writer
        self._network = network

    def check(self, step: Step | None) -> None:
        """Raises BadWord when a step names files or secrets that are not there."""
        if isinstance(step, CopyStep) and not step.source_stage:
            actions.Copying(step, self._context, self._blobs)
        if isinstance(step, RunStep):
            Mounting(step.mounts, self._context, self._secrets)

    async def of(
        self,
        step: RunStep | CopyStep,
        below: LayerRecord,
        directories: tuple[str, ...],
        *,
        source: FindSource,
        say: Say,
    ) -> tuple[str, Prepare]:
        """`directories` are made first."""
        parent = below.digest
        if isinstance(step, RunStep):
            return await self._run(step, parent, directories, source)
        if not step.source_stage:
            copying = actions.Copying(step, self._context, self._blobs)
            limit_bytes = below.virtual_size_bytes
            return copying.key(parent, directories), self._copying(copying, say, limit_bytes)
        image = await source(step.source_stage)
        content = await self._writer.content(image, step.sources)
        key = actions.image_copy_key(step, content, parent, directories)
        return key, ready(actions.image_copy_action(step, self._store.volume(image)))

    async def _run(
        self, step: RunStep, parent: str, directories: tuple[str, ...], source: FindSource
    ) -> tuple[str, Prepare]:
        mounting = Mounting(step.mounts, self._context, self._secrets)
        images = {reference: await source(reference) for reference in mounting.references}

        async def prepare(held: AsyncExitStack) -> Action:
            network = await self._network.get() if step.network else StepNetwork(namespace=None)
            mounts = await mounting.actions(self._blobs, self._caches, held)
            return Action(
                run=actions.run_action(step, network, mounts, mounting.variables),
                sources=tuple(self._store.volume(image) for image in images.values()),
                hidden=self._hidden,
            )

        return keys.run_key(parent, directories, step, mounting.key(images)), prepare

    @property
    def _hidden(self) -> tuple[str, ...]:
        secrets = self._secrets.values()
        return tuple(base64.b64decode(secret).decode(errors="replace") for secret in secrets)

    def _copying(self, copying: actions.Copying, say: Say, limit_bytes: int) -> Prepare:
        async def fetch(step: CopyStep) -> None:
            if not await asyncio.to_thread(self._blobs.has_whole, step.checksum):
                say(f"fetching {step.url}")
                await self._fetch(step, limit_bytes)

        async def prepare(held: AsyncExitStack) -> Action:
            return await copying.prepare(fetch)

        return prepare

    async def _fetch(self, step: CopyStep, limit_bytes: int) -> None:
        async with fetched(
            step.url,
            network=await self._network.get(),
            proxies=step.proxies,
            certificates=actions.host_certificates(),
            temporary=self._store.temporary,
            limit_seconds=self._writer.limit_seconds,
            limit_bytes=limit_bytes,
        ) as (content, digest):
            if digest != step.checksum:
                raise BuildFailed(
                    f"{step.url} is {digest}, not what --checksum says",
                    hint="If it is what you want, correct --checksum.",
                )
            await asyncio.to_thread(self._blobs.put, digest, content)


def ready(action: Action) -> Prepare:
    """Nothing has to be prepared."""

    async def prepare(held: AsyncExitStack) -> Action:
        return action

    return prepare
