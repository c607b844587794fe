"""The bases that are made already, and making them: present means done."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmorch import durable
from vmorch.errors import BuildFailed, NotFound
from vmorch.images.base_build import DISK, INITRD, KERNEL, BaseBuilder, unpack_kernel
from vmorch.images.base_definition import BaseDefinition, load_definitions
from vmorch.images.base_disk import VIRTUAL_SIZE_BYTES
from vmorch.images.base_packages import PackageSource
from vmorch.images.base_process import Say
from vmorch.images.files import hexadecimal
from vmorch.images.protocol import BuildProgress, Progress, StepState
from vmorch.model.image import BootConfig, RunConfig

_RECORD = "base.json"
_WORK_PREFIX = "base-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A root file system from a definition. `digest` ("sha256:…") is that of its inputs: the
    definition, the guest's files, the builder and the packages' versions."""

    name: str
    digest: str
    disk: Path
    boot: BootConfig
    run: RunConfig
    virtual_size_bytes: int
    packages: dict[str, str] = field(default_factory=dict)
    created_at: float = 0.0


class BaseCatalog:
    """Bases below `images_dir`: disks in `layers/`, kernels and records in `bases/`.

    A base appears by one rename of its directory, whole; one that is not whole any more counts as
    absent, and gives way to the next of its name. Work in progress lies in `tmp/`.
    `definitions` is the directory `images` of this installation.
    """

    def __init__(self, images_dir: Path, definitions: Path, outside_netns: str = "") -> None:
        self._images = images_dir
        self._guest = definitions / "guest"
        self._definitions = load_definitions(definitions)
        self._source = PackageSource(outside_netns)
        self._locks: dict[str, asyncio.Lock] = {}

    def resolve(self, reference: str) -> str | None:
        """The definition that a user's reference ("debian:12") means, if any."""
        for definition in self._definitions.values():
            if reference in (definition.name, *definition.aliases):
                return definition.name
        return None

    async def ensure(self, name: str, progress: Progress, *, pull: bool = False) -> Base:
        """The base of that definition, made when it is not there or its definition changed.
        `pull` also makes it anew when the archive has newer packages.

        Raises:
            NotFound: no definition has that name. BuildFailed: it could not be made.
        """
        definition = self._definitions.get(name)
        if definition is None:
            raise NotFound(
                f"There is no base '{name}'.",
                hint=f"Bases: {', '.join(sorted(self._definitions))}.",
            )
        async with self._locks.setdefault(name, asyncio.Lock()):
            found = await asyncio.to_thread(self._find, definition)
            if found is not None and not pull:
                return found
            story = _Story(f"base {name}", progress)
            async with story.told():
                if found is not None and not await self._outdated(definition, found, story.say):
                    return found
                return await self._make(definition, story.say)

    async def probe_kernel(self) -> Path:
        """Some kernel that a guest of ours could boot: of a base, else of this host, else
        fetched. For the question whether KVM works."""
        async with self._locks.setdefault("", asyncio.Lock()):
            ours = sorted(self._images.glob("bases/*/vmlinuz"))
            hosts = sorted(Path("/boot").glob("vmlinuz-*"))
            for kernel in (*ours, *hosts):
                if kernel.stat().st_size:
                    return kernel
            return await self._fetch_kernel()

    async def sweep(self) -> None:
        """Remove what an interrupted build left. Only while no build runs."""
        for left in self._images.glob(f"tmp/{_WORK_PREFIX}*"):
            await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)

    def _find(self, definition: BaseDefinition) -> Base | None:
        """The newest base made by just this recipe."""
        bases = []
        for record in self._images.glob(f"bases/*/{_RECORD}"):
            document = _record_of(record.parent)
            if document is None:
                continue
            if (document["name"], document["recipe"]) == (definition.name, definition.recipe):
                bases.append(self._base(document, record.parent))
        return max(bases, key=lambda base: base.created_at, default=None)

    def _base(self, document: dict[str, Any], directory: Path) -> Base:
        definition = self._definitions[document["name"]]
        place = directory.relative_to(self._images)
        return Base(
            name=document["name"],
            digest=document["digest"],
            disk=self._disk(document["digest"], directory / DISK),
            boot=BootConfig(
                kernel=str(place / KERNEL),
                initrd=str(place / INITRD),
                command_line=definition.command_line,
                supports=definition.supports,
                least_memory_bytes=definition.least_memory_bytes,
            ),
            run=RunConfig(),
            virtual_size_bytes=VIRTUAL_SIZE_BYTES,
            packages=document["packages"],
            created_at=document["created_at"],
        )

    def _disk(self, digest: str, disk: Path) -> Path:
        """One file with two names: the directory appears whole, and overlays name the layer.
        While layers stand on an earlier disk of that name, which was damaged, it has but one."""
        layer = self._images / "layers" / f"{hexadecimal(digest)}.qcow2"
        if not layer.exists():
            layer.parent.mkdir(parents=True, exist_ok=True)
            layer.hardlink_to(disk)
        return layer if layer.samefile(disk) else disk

    async def _outdated(self, definition: BaseDefinition, base: Base, say: Say) -> bool:
        async with self._work() as work:
            say("asking the archive for newer packages")
            current = await self._source.candidates(definition.suite, base.packages, work, say)
        return any(current.get(name, version) != version for name, version in base.packages.items())

    async def _make(self, definition: BaseDefinition, say: Say) -> Base:
        builder = BaseBuilder(self._guest, self._source)
        async with self._work() as work:
            output = work / "output"
            packages = await builder.build(definition, work, output, say)
            digest = _digest(definition.recipe, packages)
            document = {
                "name": definition.name,
                "digest": digest,
                "recipe": definition.recipe,
                "packages": packages,
                "sizes": _sizes(output),
                "created_at": time.time(),
            }
            (output / _RECORD).write_text(json.dumps(document, indent=1, sort_keys=True))
            short = digest.removeprefix("sha256:")[:12]
            place = self._images / "bases" / f"{definition.name}-{short}"
            await asyncio.to_thread(_publish, output, place, work / "damaged")
            return self._base(document, place)

    async def _fetch_kernel(self) -> Path:
        definition = next(iter(self._definitions.values()), None)
        if definition is None:
            raise BuildFailed("There is no base whose kernel could be fetched.")
        async with self._work() as work:
            await self._source.kernel(definition, work / "debs", lambda line: None)
            version = await unpack_kernel(work / "debs", work / "kernel")
            place = self._images / "bases" / f"kernel-{version}"
            place.mkdir(parents=True, exist_ok=True)
            durable.publish(work / "kernel/boot" / f"vmlinuz-{version}", place / KERNEL)
        return place / KERNEL

    @asynccontextmanager
    async def _work(self) -> AsyncIterator[Path]:
        tmp = self._images / "tmp"
        tmp.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=_WORK_PREFIX, dir=tmp))
        try:
            yield work
        finally:
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)


@dataclass(slots=True)
class _Story:
    """One build as progress: its beginning, its lines, its end."""

    step: str
    progress: Progress

    def say(self, line: str) -> None:
        self._tell(StepState.OUTPUT, line)

    def _tell(self, state: StepState, text: str = "", seconds: float = 0.0) -> None:
        self.progress(
            BuildProgress(
                step=self.step, number=1, total=1, state=state, text=text, seconds=seconds
            )
        )

    @asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        began = time.monotonic()
        self._tell(StepState.STARTED)
        try:
            yield
        except BuildFailed as error:
            self._tell(StepState.FAILED, error.message, time.monotonic() - began)
            raise
        self._tell(StepState.DONE, "", time.monotonic() - began)


def _publish(output: Path, place: Path, damaged: Path) -> None:
    """What is there and not whole goes to `damaged`, for the caller to remove."""
    if _record_of(place) is not None:
        return
    if place.exists():
        place.rename(damaged)
    place.parent.mkdir(parents=True, exist_ok=True)
    durable.publish_directory(output, place)


def _record_of(place: Path) -> dict[str, Any] | None:
    """None when there is no base, or a power cut has left one that is not whole."""
    try:
        document: dict[str, Any] = json.loads((place / _RECORD).read_text())
        sizes = _sizes(place)
    except (OSError, ValueError):
        return None
    # Without sizes: its disk was published before they were written down.
    return document if document.get("sizes", sizes) == sizes else None


def _sizes(directory: Path) -> dict[str, int]:
    return {name: (directory / name).stat().st_size for name in (DISK, INITRD, KERNEL)}


def _digest(recipe: str, packages: dict[str, str]) -> str:
    text = json.dumps([recipe, packages], sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
