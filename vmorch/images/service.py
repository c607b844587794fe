"""The images of one state directory: answers `Images` with real layers and disks.

images/layers/     qcow2 files and their records       images/bases/   kernels, base disks
images/keys/       which layer a step's key led to      images/blobs/   contents of contexts
images/manifests/  what an image consists of            images/tags/    names of images
images/tmp/        work in progress, empty at rest
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from vmorch.effects import Clock, Entropy, Faults, NoFaults, SystemClock, SystemEntropy
from vmorch.errors import NotFound, Refused, VmorchError
from vmorch.images import keys, qcow2
from vmorch.images.blobs import BlobStore
from vmorch.images.builder import Build, StageResult
from vmorch.images.dockerfile.mistakes import did_you_mean
from vmorch.images.layers import LayerRecord, LayerStore
from vmorch.images.manifests import ManifestStore, normal_name
from vmorch.images.protocol import BuildRequest, ImageSummary, Progress
from vmorch.images.stepnet import LazyNetwork
from vmorch.images.sweeping import sweep_directory
from vmorch.images.writer import WORK_PREFIX, LayerWriter
from vmorch.model.image import BootConfig, ImageManifest, Layer, RunConfig
from vmorch.model.stepnet import OpenStepNetwork

STEP_LIMIT_SECONDS = 3600.0
BLOB_AGE_SECONDS = 14 * 24 * 3600.0


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
    ) -> None:
        self._directory = images_dir
        self._catalog = catalog
        self._open_step_network = open_step_network
        self._faults = faults or NoFaults()
        self._clock = clock or SystemClock()
        self._layers = LayerStore(images_dir)
        self._manifests = ManifestStore(images_dir)
        self._blobs = BlobStore(images_dir / "blobs", temporary=images_dir / "tmp")
        self._writer = LayerWriter(
            self._layers,
            clock=self._clock,
            entropy=entropy or SystemEntropy(),
            faults=self._faults,
            limit_seconds=step_limit_seconds,
        )
        self._layers.prepare()
        self._manifests.prepare()
        self._blobs.prepare()

    async def sweep(self) -> None:
        """Take away what an earlier process left unfinished. Before the first build only."""
        await self._catalog.sweep()
        await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        temporary = self._layers.temporary
        for prefix in (WORK_PREFIX, "blob-", tempfile.gettempprefix()):
            sweep_directory(temporary, prefix)
        self._layers.sweep()
        self._blobs.collect(unused_since=self._clock.now() - BLOB_AGE_SECONDS)

    async def missing_blobs(self, digests: Sequence[str]) -> Sequence[str]:
        return await asyncio.to_thread(self._blobs.missing, digests)

    async def put_blob(self, digest: str, content: Path) -> None:
        await asyncio.to_thread(self._blobs.put, digest, content)

    async def build(self, request: BuildRequest, progress: Progress) -> ImageManifest:
        if self._catalog.resolve(request.name) is not None:
            raise Refused(
                f"'{request.name}' is the name of a base.", hint="Give the image another name."
            )

        async def ensure(reference: str, pull: bool) -> ImageManifest:
            return await self._ensure(reference, progress, pull=pull)

        network = LazyNetwork(self._open_step_network)
        try:
            build = Build(
                request,
                progress,
                store=self._layers,
                blobs=self._blobs,
                writer=self._writer,
                network=network,
                ensure=ensure,
                clock=self._clock,
            )
            result = await build.run()
        finally:
            await network.close()
        await self._faults.at("image.manifest")
        return await asyncio.to_thread(self._keep, result, request.name)

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
            raise await asyncio.to_thread(self._unknown, reference)
        manifest = await self.manifest(digest)
        await asyncio.to_thread(self._check, manifest)
        return manifest

    def _unknown(self, reference: str) -> NotFound:
        close = did_you_mean(normal_name(reference), self._manifests.tags())
        return NotFound(
            f"There is no image '{reference}'{close}",
            hint="'vmorch image ls' shows all images; FROM and image: also take bases, "
            "such as debian:12.",
        )

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
        return await asyncio.to_thread(self._summaries)

    def _summaries(self) -> list[ImageSummary]:
        manifests = self._manifests.every()
        users = Counter(layer.digest for manifest in manifests for layer in manifest.layers)
        names: dict[str, list[str]] = {}
        for name, digest in self._manifests.tags().items():
            names.setdefault(digest, []).append(name)
        rows = [
            ImageSummary(
                digest=manifest.digest,
                names=tuple(names.get(manifest.digest, ())),
                base=manifest.base,
                size_bytes=sum(layer.size_bytes for layer in manifest.layers),
                own_bytes=sum(
                    layer.size_bytes for layer in manifest.layers if users[layer.digest] == 1
                ),
                created_at=manifest.created_at,
            )
            for manifest in manifests
        ]
        return sorted(rows, key=lambda row: row.created_at)

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
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)
        qcow2.create_overlay(temporary, backing=str(top), size_bytes=size)
        temporary.replace(path)

    def boot_files(self, manifest: ImageManifest) -> tuple[Path, Path]:
        return self._directory / manifest.boot.kernel, self._directory / manifest.boot.initrd
