"""Images in memory, for the simulation and for tests of what stands on the protocol.

A build takes `step_seconds` for each instruction by the given clock and writes nothing; the
Dockerfile is really read, so that its mistakes and its run configuration are the real ones. Faults
are injected by the tests: `fail`, `hang`, `forget`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vmorch.effects import Clock
from vmorch.errors import (
    BuildFailed,
    InvalidSpec,
    NotFound,
    Refused,
    SpecProblem,
    UsageError,
    VmorchError,
)
from vmorch.images import keys
from vmorch.images.dockerfile.parse import parse
from vmorch.images.dockerfile.stage import StageState, global_variables
from vmorch.images.dockerfile.words import BadWord, Substitution
from vmorch.images.graph import host_platform
from vmorch.images.manifests import normal_name
from vmorch.images.protocol import (
    BuildProgress,
    BuildRequest,
    Freed,
    ImageSummary,
    ImportRequest,
    LayerHistory,
    Progress,
    StepState,
    Verified,
)
from vmorch.model.image import BootConfig, ImageManifest, Layer, RunConfig

BASES = {"debian:12": "debian-12", "debian-12": "debian-12", "tiny": "tiny"}
VIRTUAL_SIZE_BYTES = 16 * 1024**3


class FakeImages:
    """`base_seconds` is what making a base takes, once. `disks` are those that `create_disk`
    made: path -> (digest, size)."""

    def __init__(
        self, clock: Clock, *, step_seconds: float = 0.2, base_seconds: float = 60.0
    ) -> None:
        self.step_seconds = step_seconds
        self.base_seconds = base_seconds
        self.manifests: dict[str, ImageManifest] = {}
        self.tags: dict[str, str] = {}
        self.blobs: set[str] = set()
        self.disks: dict[Path, tuple[str, int]] = {}
        self._clock = clock
        self._failing: Counter[str] = Counter()
        self._hanging: Counter[str] = Counter()

    # --- what tests do to it

    def fail(self, call: str, times: int = 1) -> None:
        """The next `times` calls of that name raise (BuildFailed, or VmorchError) and do
        nothing."""
        self._failing[call] += times

    def hang(self, call: str, times: int = 1) -> None:
        """The next `times` calls of that name never return."""
        self._hanging[call] += times

    def forget(self, digest: str) -> None:
        """The image vanishes, as when its layers are found damaged."""
        del self.manifests[digest]

    def add(self, name: str, run: RunConfig | None = None) -> ImageManifest:
        """An image that needs no build."""
        manifest = self._manifest(name, run or RunConfig(), base="debian-12")
        self.tags[normal_name(name)] = manifest.digest
        return manifest

    # --- the protocol

    async def missing_blobs(self, digests: Sequence[str]) -> Sequence[str]:
        await self._call("missing_blobs")
        return [digest for digest in dict.fromkeys(digests) if digest not in self.blobs]

    async def put_blob(self, digest: str, content: Path) -> None:
        await self._call("put_blob")
        found = "sha256:" + hashlib.sha256(content.read_bytes()).hexdigest()
        content.unlink()
        if found != digest:
            raise UsageError(f"The content that was sent as {digest} is {found}.")
        self.blobs.add(digest)

    async def build(self, request: BuildRequest, progress: Progress) -> ImageManifest:
        dockerfile = parse(request.dockerfile, request.dockerfile_name)
        await self._call("build")
        stage = dockerfile.stage(request.target) if request.target else dockerfile.stages[-1]
        if stage is None:
            raise UsageError(f"There is no stage '{request.target}'.")
        variables = global_variables(dockerfile, request.args, host_platform())
        reference = Substitution(variables, dockerfile.escape).word(stage.base.image)
        base = await self.ensure(reference, progress)
        state = StageState(base.run, global_args=variables, build_args=request.args)
        total = len(stage.instructions)
        for number, instruction in enumerate(stage.instructions, start=1):
            try:
                state.apply(instruction)
            except BadWord as error:
                name, line = request.dockerfile_name, instruction.line
                raise InvalidSpec([SpecProblem(name, line, 1, "", str(error))]) from error
            await self._clock.sleep(self.step_seconds)
            progress(
                BuildProgress(
                    step=instruction.text,
                    number=number,
                    total=total,
                    state=StepState.DONE,
                    seconds=self.step_seconds,
                )
            )
        inputs = [request.dockerfile, request.args, [[e.path, e.digest] for e in request.context]]
        manifest = self._manifest(keys.digest_of(inputs), state.run, base=base.base)
        self.tags[normal_name(request.name)] = manifest.digest
        return manifest

    async def import_disk(self, request: ImportRequest, progress: Progress) -> ImageManifest:
        await self._call("import_disk")
        if not request.digest and not request.insecure:
            raise UsageError("A disk is not imported without its digest.")
        source = request.digest or request.url
        manifest = self._manifest(keys.digest_of(source), RunConfig(), base=request.name)
        self.tags[normal_name(request.name)] = manifest.digest
        return manifest

    async def ensure(self, reference: str, progress: Progress) -> ImageManifest:
        await self._call("ensure")
        if (base := BASES.get(reference)) is not None:
            if f"base {base}" not in self.tags:
                await self._clock.sleep(self.base_seconds)
                self.tags[f"base {base}"] = self._manifest(base, RunConfig(), base=base).digest
            return self.manifests[self.tags[f"base {base}"]]
        return await self.manifest(self.tags.get(normal_name(reference), reference))

    async def manifest(self, digest: str) -> ImageManifest:
        await self._call("manifest")
        if digest not in self.manifests:
            raise NotFound(f"There is no image '{digest}'.")
        return self.manifests[digest]

    async def images(self) -> Sequence[ImageSummary]:
        await self._call("images")
        return [
            ImageSummary(
                digest=digest,
                names=tuple(name for name, tagged in self.tags.items() if tagged == digest),
                base=manifest.base,
                size_bytes=sum(layer.size_bytes for layer in manifest.layers),
                own_bytes=manifest.layers[-1].size_bytes,
                created_at=manifest.created_at,
            )
            for digest, manifest in self.manifests.items()
        ]

    async def find(self, reference: str) -> ImageManifest:
        await self._call("find")
        name = normal_name(reference)
        base = self.tags.get(f"base {BASES.get(reference, '')}")
        return await self.manifest(self.tags.get(name) or base or reference)

    async def history(self, reference: str) -> Sequence[LayerHistory]:
        manifest = await self.find(reference)
        return [
            LayerHistory(
                digest=layer.digest,
                created_by=layer.created_by,
                created_at=manifest.created_at,
                seconds=self.step_seconds,
                size_bytes=layer.size_bytes,
                cached=False,
            )
            for layer in manifest.layers
        ]

    async def verify(self, reference: str | None) -> Verified:
        await self._call("verify")
        chosen = [await self.find(reference)] if reference else list(self.manifests.values())
        layers = {layer.digest: layer for manifest in chosen for layer in manifest.layers}
        read = sum(layer.size_bytes for layer in layers.values())
        return Verified(layers=len(layers), bytes_read=read, damaged=())

    async def content(self, reference: str) -> str:
        return keys.digest_of((await self.find(reference)).digest)

    async def tag(self, reference: str, name: str) -> None:
        self.tags[normal_name(name)] = (await self.find(reference)).digest

    async def remove(self, reference: str, in_use: Mapping[str, str]) -> Freed:
        digest = (await self.find(reference)).digest
        names = [name for name, tagged in self.tags.items() if tagged == digest]
        name = normal_name(reference)
        if name in names and len(names) > 1:
            del self.tags[name]
            return Freed(names=(name,))
        if digest in in_use:
            raise Refused(f"The image '{reference}' is needed by {in_use[digest]}.")
        for each in names:
            del self.tags[each]
        del self.manifests[digest]
        return Freed(names=tuple(names), images=(digest,))

    async def prune(self, in_use: Mapping[str, str], *, everything: bool) -> Freed:
        await self._call("prune")
        needed = {*self.tags.values(), *in_use}
        gone = tuple(digest for digest in self.manifests if digest not in needed)
        for digest in gone:
            del self.manifests[digest]
        return Freed(images=gone)

    async def create_disk(self, digest: str, path: Path, size_bytes: int | None) -> None:
        await self._call("create_disk")
        manifest = await self.manifest(digest)
        size = size_bytes or manifest.virtual_size_bytes
        if size < manifest.virtual_size_bytes:
            raise Refused(f"A disk of {size} bytes is smaller than the image.")
        self.disks.setdefault(path, (digest, size))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    async def create_fork(self, frozen: Path, path: Path) -> None:
        await self._call("create_fork")
        self.disks[path] = (str(frozen), 0)
        path.touch()

    def boot_files(self, manifest: ImageManifest) -> tuple[Path | None, Path | None]:
        return Path("/images") / manifest.boot.kernel, Path("/images") / manifest.boot.initrd

    async def _call(self, name: str) -> None:
        if self._hanging[name]:
            self._hanging[name] -= 1
            await asyncio.Event().wait()
        if self._failing[name]:
            self._failing[name] -= 1
            kind = BuildFailed if name == "build" else VmorchError
            raise kind(f"The fake images were told to fail {name}.")

    def _manifest(self, source: str, run: RunConfig, *, base: str) -> ImageManifest:
        boot = BootConfig(
            kernel=f"bases/{base}/vmlinuz",
            initrd=f"bases/{base}/initrd",
            command_line="console=ttyS0",
            supports=frozenset({"agent", "ssh", "systemd", "cloud-init"}),
        )
        layer = Layer(digest=keys.digest_of(source), created_by=source, size_bytes=1_000_000)
        manifest = ImageManifest(
            digest=keys.image_digest(layer.digest, run, boot),
            base=base,
            layers=(layer,),
            boot=boot,
            run=run,
            virtual_size_bytes=VIRTUAL_SIZE_BYTES,
            created_at=self._clock.now(),
        )
        return self.manifests.setdefault(manifest.digest, manifest)
