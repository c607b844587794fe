"""The images of one state directory: answers `Images` with real layers and disks.

images/layers/     qcow2 files and their records       images/bases/   kernels, base disks
images/keys/       which layer a step's key led to      images/blobs/   contents of contexts
images/manifests/  what an image consists of            images/tags/    names of images
images/cache/      what RUN --mount=type=cache keeps
images/tmp/        work in progress, empty at rest
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from vmorch import durable
from vmorch.effects import Clock, Entropy, Faults, NoFaults, SystemClock, SystemEntropy
from vmorch.errors import NotFound, Refused, UsageError, VmorchError
from vmorch.images import keys, qcow2
from vmorch.images.blobs import BlobStore
from vmorch.images.builder import Build, EnsureImage, StageResult
from vmorch.images.caches import CacheStore
from vmorch.images.importing import Importer, guest_dockerfile
from vmorch.images.layers import LayerRecord, LayerStore
from vmorch.images.library import RECENT_SECONDS, Library
from vmorch.images.manifests import ManifestStore
from vmorch.images.protocol import (
    BuildRequest,
    Freed,
    ImageSummary,
    ImportRequest,
    LayerHistory,
    Progress,
    Verified,
)
from vmorch.images.stepgroups import StepGroups
from vmorch.images.stepnet import LazyNetwork
from vmorch.images.sweeping import sweep_directory
from vmorch.images.workshop import Workers
from vmorch.images.writer import WORK_PREFIX, LayerWriter
from vmorch.model.image import BootConfig, ImageManifest, Layer, RunConfig
from vmorch.model.stepnet import OpenStepNetwork, host_network

STEP_LIMIT_SECONDS = 3600.0
BLOB_AGE_SECONDS = 14 * 24 * 3600.0
_SENT_SECONDS = 600.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*(?::[A-Za-z0-9._-]+)?\Z")


class Base(Protocol):
    """What a build needs to know of a base; `bases.Base` is one."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def disk(self) -> Path: ...
    @property
    def boot(self) -> BootConfig: ...
    @property
    def run(self) -> RunConfig: ...
    @property
    def virtual_size_bytes(self) -> int: ...
    @property
    def created_at(self) -> float: ...


class Catalog(Protocol):
    """Where bases come from; `bases.BaseCatalog` is one."""

    def resolve(self, reference: str) -> str | None: ...

    async def ensure(self, name: str, progress: Progress, *, pull: bool = False) -> Base: ...

    async def sweep(self) -> None: ...


class ImageService:
    def __init__(
        self,
        images_dir: Path,
        catalog: Catalog,
        open_step_network: OpenStepNetwork,
        faults: Faults | None = None,
        *,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        step_limit_seconds: float = STEP_LIMIT_SECONDS,
        outside_netns: str = "",
        step_groups: StepGroups | None = None,
    ) -> None:
        """`step_groups` None: nothing bounds what a step takes of the host."""
        self._directory = images_dir
        self._catalog = catalog
        self._open_step_network = open_step_network
        self._faults = faults or NoFaults()
        self._groups = step_groups
        self._clock = clock or SystemClock()
        self._layers = LayerStore(images_dir)
        self._manifests = ManifestStore(images_dir)
        self._blobs = BlobStore(images_dir / "blobs", temporary=images_dir / "tmp")
        self._caches = CacheStore(images_dir, temporary=images_dir / "tmp")
        self._workers = workers = Workers()
        self._writer = LayerWriter(
            self._layers,
            workers,
            clock=self._clock,
            entropy=entropy or SystemEntropy(),
            faults=self._faults,
            limit_seconds=step_limit_seconds,
            groups=step_groups,
        )
        self._importer = Importer(
            images_dir,
            self._layers,
            self._blobs,
            workers,
            faults=self._faults,
            clock=self._clock,
            network=host_network(outside_netns),
        )
        self._library = Library(images_dir, self._layers, self._manifests, clock=self._clock)
        self._layers.prepare()
        self._manifests.prepare()
        self._blobs.prepare()
        self._caches.prepare()

    async def sweep(self) -> None:
        """Take away what an earlier process left unfinished. Before the first build only."""
        await self._catalog.sweep()
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        if self._groups is not None:
            self._groups.sweep()
        temporary = self._layers.temporary
        for prefix in (WORK_PREFIX, "blob-", tempfile.gettempprefix()):
            sweep_directory(temporary, prefix)
        self._layers.sweep()
        self._library.sweep()
        unused_since = self._clock.now() - BLOB_AGE_SECONDS
        self._blobs.collect(unused_since=unused_since)
        self._layers.forget_contents(unused_since=unused_since)

    async def close(self) -> None:
        """End what waits for the next build."""
        await self._workers.close()

    async def missing_blobs(self, digests: Sequence[str]) -> Sequence[str]:
        return await asyncio.to_thread(self._blobs.missing, digests)

    async def put_blob(self, digest: str, content: Path) -> None:
        await asyncio.to_thread(self._blobs.put, digest, content)

    async def build(self, request: BuildRequest, progress: Progress) -> ImageManifest:
        self._check_name(request.name)

        async def ensure(reference: str, pull: bool) -> ImageManifest:
            return await self._ensure(reference, progress, pull=pull)

        network = LazyNetwork(self._open_step_network)
        with self._library.building():
            try:
                return await self._build(request, progress, network, ensure)
            finally:
                await network.close()

    async def _build(
        self,
        request: BuildRequest,
        progress: Progress,
        network: LazyNetwork,
        ensure: EnsureImage,
    ) -> ImageManifest:
        build = Build(
            request,
            progress,
            store=self._layers,
            blobs=self._blobs,
            caches=self._caches,
            writer=self._writer,
            network=network,
            ensure=ensure,
            clock=self._clock,
        )
        result = await build.run()
        await self._faults.at("image.manifest")
        kept = await asyncio.to_thread(self._keep, result, request.name)
        await asyncio.to_thread(self._manifests.note_build, kept.digest, build.written)
        return kept

    def _check_name(self, name: str) -> None:
        """Raises Refused, UsageError."""
        if self._catalog.resolve(name) is not None:
            raise Refused(f"'{name}' is the name of a base.", hint="Give the image another name.")
        if not _NAME.match(name) or name.startswith("sha256:"):
            raise UsageError(
                f"'{name}' cannot name an image.",
                hint="Names are letters, digits and . _ - / with an optional :TAG.",
            )

    async def import_disk(self, request: ImportRequest, progress: Progress) -> ImageManifest:
        self._check_name(request.name)
        with self._library.building():
            top, boot = await self._importer.disk(request, progress)
            found = StageResult(top, RunConfig(), boot, request.name)
            disk = await asyncio.to_thread(self._keep, found, None)
            build = BuildRequest(
                name=request.name,
                dockerfile=guest_dockerfile(disk.digest),
                dockerfile_name="the guest's program",
                context=(),
            )
            image = await self.build(build, progress)
            await asyncio.to_thread(self._manifests.remove, disk.digest)
            return image

    async def ensure(self, reference: str, progress: Progress) -> ImageManifest:
        return await self._ensure(reference, progress, pull=False)

    async def _ensure(self, reference: str, progress: Progress, *, pull: bool) -> ImageManifest:
        name = self._catalog.resolve(reference)
        if name is not None:
            base = await self._catalog.ensure(name, progress, pull=pull)
            return await asyncio.to_thread(self._adopt, base)
        digest = reference if reference.startswith("sha256:") else None
        digest = digest or await asyncio.to_thread(self._manifests.tagged, reference)
        if digest is None:
            raise await asyncio.to_thread(self._library.unknown, reference)
        manifest = await self.manifest(digest)
        await asyncio.to_thread(self._manifests.touch, digest)
        await asyncio.to_thread(self._check, manifest)
        return manifest

    def _adopt(self, base: Base) -> ImageManifest:
        record = LayerRecord(
            digest=base.digest,
            key=base.digest,
            parent="",
            created_by=base.name,
            size_bytes=base.disk.stat().st_size,
            virtual_size_bytes=base.virtual_size_bytes,
            created_at=base.created_at,
        )
        top = self._layers.adopt(base.disk, record)
        return self._keep(StageResult(top, base.run, base.boot, base.name), None)

    def _keep(self, result: StageResult, name: str | None) -> ImageManifest:
        chain = self._layers.chain(result.top.digest)
        layers = tuple(
            Layer(digest=r.digest, created_by=r.created_by, size_bytes=r.size_bytes) for r in chain
        )
        manifest = ImageManifest(
            digest=keys.image_digest(result.top.digest, result.run, result.boot),
            base=result.base,
            layers=layers,
            boot=result.boot,
            run=result.run,
            virtual_size_bytes=result.top.virtual_size_bytes,
            created_at=self._clock.now(),
        )
        kept = self._manifests.put(manifest)
        if name is not None:
            self._manifests.tag(name, kept.digest)
        return kept

    def _check(self, manifest: ImageManifest) -> None:
        """Raises VmorchError when a layer of the image must not be used."""
        for layer in manifest.layers:
            record = self._layers.record(layer.digest)
            damage = self._layers.damage(record) if record else f"{layer.digest} has no record"
            if damage:
                raise VmorchError(
                    f"The image {manifest.digest} is damaged: {damage}.",
                    hint="Build it again; the damaged layer is then made anew.",
                )

    async def manifest(self, digest: str) -> ImageManifest:
        manifest = await asyncio.to_thread(self._manifests.get, digest)
        if manifest is None:
            raise NotFound(
                f"There is no image {digest}.", hint="'vmorch image ls' shows all images."
            )
        return manifest

    async def images(self) -> Sequence[ImageSummary]:
        return await asyncio.to_thread(self._library.summaries)

    async def find(self, reference: str) -> ImageManifest:
        return await asyncio.to_thread(self._find, reference)

    def _find(self, reference: str) -> ImageManifest:
        return self._library.find(reference, self._catalog.resolve(reference))

    async def history(self, reference: str) -> Sequence[LayerHistory]:
        manifest = await self.find(reference)
        return await asyncio.to_thread(self._library.history, manifest)

    async def verify(self, reference: str | None) -> Verified:
        manifest = await self.find(reference) if reference is not None else None
        return await asyncio.to_thread(self._library.verify, manifest)

    async def content(self, reference: str) -> str:
        manifest = await self.find(reference)
        await asyncio.to_thread(self._check, manifest)
        top = await asyncio.to_thread(self._layers.record, manifest.layers[-1].digest)
        assert top is not None  # `_check` has seen it
        with self._library.building():
            return await self._writer.content(top, ("",))

    async def tag(self, reference: str, name: str) -> None:
        self._check_name(name)
        manifest = await self.find(reference)
        await asyncio.to_thread(self._manifests.tag, name, manifest.digest)

    async def remove(self, reference: str, in_use: Mapping[str, str]) -> Freed:
        base = self._catalog.resolve(reference)
        return await asyncio.to_thread(self._library.remove, reference, base, in_use)

    async def prune(self, in_use: Mapping[str, str], *, everything: bool) -> Freed:
        freed = await asyncio.to_thread(self._library.prune, in_use, everything=everything)
        since = self._clock.now() - (0.0 if everything else RECENT_SECONDS)
        more = self._caches.collect(unused_since=since)
        # A client may be about to ask for a build of what it has just sent.
        sent = min(since, self._clock.now() - _SENT_SECONDS)
        more += await asyncio.to_thread(self._blobs.collect, unused_since=sent)
        return replace(freed, bytes_freed=freed.bytes_freed + more)

    async def create_disk(self, digest: str, path: Path, size_bytes: int | None) -> None:
        """Raises NotFound, Refused (smaller than the image), VmorchError (no room, damage)."""
        manifest = await self.manifest(digest)
        await asyncio.to_thread(self._create_disk, manifest, path, size_bytes)

    def _create_disk(self, manifest: ImageManifest, path: Path, size_bytes: int | None) -> None:
        if path.exists():
            return
        size = size_bytes or manifest.virtual_size_bytes
        if size < manifest.virtual_size_bytes:
            raise Refused(
                f"A disk of {size} bytes is smaller than the image's "
                f"{manifest.virtual_size_bytes}.",
                hint="Leave 'disk' out, or give at least the image's size.",
            )
        self._check(manifest)
        top = self._layers.path(manifest.layers[-1].digest).absolute()
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        _publish_overlay(path, backing=top, size_bytes=size)

    async def create_fork(self, frozen: Path, path: Path) -> None:
        """Raises VmorchError: no room, or no such disk."""
        await asyncio.to_thread(self._create_fork, frozen, path)

    def _create_fork(self, frozen: Path, path: Path) -> None:
        header = qcow2.read_header(frozen)
        if header is None:
            raise VmorchError(f"{frozen} is no disk.")
        _publish_overlay(path, backing=frozen, size_bytes=header.virtual_size_bytes)

    def boot_files(self, manifest: ImageManifest) -> tuple[Path | None, Path | None]:
        if not manifest.boot.kernel:
            return None, None
        return self._directory / manifest.boot.kernel, self._directory / manifest.boot.initrd


def _publish_overlay(path: Path, *, backing: Path, size_bytes: int) -> None:
    """After a power cut it is there whole, or not at all; so is a link to `backing` beside it."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    qcow2.create_overlay(temporary, backing=str(backing), size_bytes=size_bytes)
    durable.publish(temporary, path)
