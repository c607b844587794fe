"""The mounts of one RUN step: what they read, what of it is in the key, what the worker is told."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from vmorch.images import keys
from vmorch.images.blobs import BlobStore
from vmorch.images.caches import CacheStore
from vmorch.images.contexts import item_of
from vmorch.images.dockerfile.steps import MountStep
from vmorch.images.dockerfile.words import BadWord
from vmorch.images.layers import LayerRecord
from vmorch.images.selection import Context, Selected
from vmorch.images.worker.job import MountAction


class Mounting:
    """`secrets` are base64, by id. Raises BadWord at once when a source names nothing, or a
    secret that is required was not given."""

    def __init__(
        self, mounts: Sequence[MountStep], context: Context, secrets: Mapping[str, str]
    ) -> None:
        self._secrets = secrets
        self._files: dict[int, Selected] = {}
        self._mounts = [m for m in mounts if m.kind != "secret" or self._is_given(m)]
        for number, mount in enumerate(self._mounts):
            if mount.kind == "bind" and not mount.source_stage:
                found = context.select(mount.source)
                if len(found) > 1:
                    raise BadWord(f"--mount: '{mount.source}' names {len(found)} files")
                self._files[number] = found[0]

    def _is_given(self, mount: MountStep) -> bool:
        if mount.name not in self._secrets and mount.required:
            raise BadWord(
                f"the secret '{mount.name}' is required: give --secret id={mount.name}, or name "
                "it under 'build.secrets' of the vmorch file"
            )
        return mount.name in self._secrets

    @property
    def references(self) -> list[str]:
        """Stages and images that binds read, each once."""
        return list(dict.fromkeys(m.source_stage for m in self._mounts if m.source_stage))

    @property
    def variables(self) -> dict[str, str]:
        """Secrets that the step gets as variables."""
        return {
            mount.env: base64.b64decode(self._secrets[mount.name]).decode(
                "utf-8", "surrogateescape"
            )
            for mount in self._mounts
            if mount.env
        }

    def key(self, sources: Mapping[str, LayerRecord]) -> list[Any]:
        """Contents of binds, but neither those of caches nor of secrets (as Docker has it)."""
        parts = []
        for number, mount in enumerate(self._mounts):
            file, source = self._files.get(number), sources.get(mount.source_stage)
            parts.append(
                keys.mount_part(mount, files=file, source_layer=source.digest if source else "")
            )
        return parts

    async def actions(
        self, blobs: BlobStore, caches: CacheStore, stack: AsyncExitStack
    ) -> tuple[MountAction, ...]:
        """`stack` holds the caches. Raises UsageError when a content was not sent."""
        paths: dict[int, str] = {}
        numbers = [n for n, mount in enumerate(self._mounts) if mount.kind == "cache"]
        # In one order for all steps, so that two that lock the same caches do not wait for
        # each other for ever.
        for number in sorted(numbers, key=lambda n: self._mounts[n].name):
            held = await stack.enter_async_context(caches.use(self._mounts[number]))
            paths[number] = str(held)
        return await asyncio.to_thread(self._actions, blobs, paths)

    def _actions(self, blobs: BlobStore, caches: Mapping[int, str]) -> tuple[MountAction, ...]:
        made = []
        for number, mount in enumerate(self._mounts):
            if not mount.target:
                continue  # a secret that is only a variable
            file = self._files.get(number)
            stage = mount.source_stage
            made.append(
                MountAction(
                    kind=mount.kind,
                    target=mount.target,
                    path=caches.get(number, mount.source if stage else ""),
                    source=self.references.index(stage) if stage else -1,
                    items=tuple(item_of(e, blobs) for e in file.entries) if file else (),
                    content=self._secrets[mount.name] if mount.kind == "secret" else "",
                    writable=mount.writable,
                    mode=mount.mode,
                    uid=mount.uid,
                    gid=mount.gid,
                    size=mount.size_bytes,
                )
            )
        return tuple(made)
