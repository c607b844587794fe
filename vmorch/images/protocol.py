"""What the daemon asks of the images. `service.py` answers with real ones, `fake.py` in memory."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vmorch.model.context import ContextEntry as ContextEntry
from vmorch.model.image import ImageManifest
from vmorch.model.stepnet import OpenStepNetwork, StepNetwork

__all__ = [
    "BuildProgress",
    "BuildRequest",
    "ContextEntry",
    "Freed",
    "ImageSummary",
    "Images",
    "ImportRequest",
    "LayerHistory",
    "OpenStepNetwork",
    "Progress",
    "StepNetwork",
    "StepState",
]


class StepState(enum.StrEnum):
    STARTED = "started"
    OUTPUT = "output"
    CACHED = "cached"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildProgress:
    """One line of a build's story. `step` is what a person reads ("RUN apt-get install …",
    "base debian-12"); `number` of `total`; `text` is output or an error; `seconds` at its end."""

    step: str
    number: int
    total: int
    state: StepState
    text: str = ""
    seconds: float = 0.0


Progress = Callable[[BuildProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """`context` entries' contents must be in the store of blobs; `dockerfile` is its text, and
    `dockerfile_name` what messages call it. `.dockerignore` was applied by the client. `secrets`
    are base64, by id; they reach steps that mount them, and nothing else."""

    name: str
    dockerfile: str
    dockerfile_name: str
    context: tuple[ContextEntry, ...]
    args: dict[str, str] = field(default_factory=dict)
    target: str | None = None
    no_cache: bool = False
    pull: bool = False
    secrets: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """A disk to take in as `name`: `url`, or a content among the blobs that was called `file`.
    `digest` ("sha256:…") is what it must be; "" only with `insecure`, and with a URL.
    `partition` is the number of the root's when it cannot be found."""

    name: str
    file: str = ""
    url: str = ""
    digest: str = ""
    insecure: bool = False
    partition: int | None = None
    proxies: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSummary:
    """One row of `image ls`. `names` are the tags that point at it."""

    digest: str
    names: tuple[str, ...]
    base: str
    size_bytes: int
    own_bytes: int
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerHistory:
    """One layer of an image. `cached`: the newest build of the image found it; `content` is the
    digest of its bytes ("" for a base)."""

    digest: str
    created_by: str
    created_at: float
    seconds: float
    size_bytes: int
    cached: bool
    content: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What was taken away: names, images and layers (digests), and the bytes that this freed."""

    names: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    bytes_freed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedLayer:
    """A layer that is not what was written, and the images (names, else digests) that need it."""

    digest: str
    reason: str
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How much was read, and what of it is damaged."""

    layers: int
    bytes_read: int
    damaged: tuple[DamagedLayer, ...]


class Images(Protocol):
    async def missing_blobs(self, digests: Sequence[str]) -> Sequence[str]:
        """Which of these contents the store lacks."""
        ...

    async def put_blob(self, digest: str, content: Path) -> None:
        """Take a file into the store of blobs (moved away from `content`).

        Raises:
            UsageError: its content has another digest.
        """
        ...

    async def build(self, request: BuildRequest, progress: Progress) -> ImageManifest:
        """Build, or find in the cache, and tag with `request.name`.

        Raises:
            InvalidSpec: the Dockerfile has mistakes. BuildFailed: a step failed.
        """
        ...

    async def import_disk(self, request: ImportRequest, progress: Progress) -> ImageManifest:
        """Make an image of somebody else's disk, with the guest's program over it, and tag it.

        Raises:
            UsageError: it is not what its digest says, or is damaged. InvalidSpec: it cannot be
            used as an image. NetworkError: it cannot be fetched.
        """
        ...

    async def ensure(self, reference: str, progress: Progress) -> ImageManifest:
        """The image that a name, base name ("debian:12") or digest leads to; a base that is not
        there yet is made.

        Raises:
            NotFound: no image or base has that name.
        """
        ...

    async def manifest(self, digest: str) -> ImageManifest:
        """Raises NotFound."""
        ...

    async def images(self) -> Sequence[ImageSummary]: ...

    async def find(self, reference: str) -> ImageManifest:
        """The image of a name, base name, digest or unambiguous beginning of a digest. Nothing
        is made. Raises NotFound, UsageError (several begin so)."""
        ...

    async def history(self, reference: str) -> Sequence[LayerHistory]:
        """Its layers, the base first. Raises as `find`."""
        ...

    async def content(self, reference: str) -> str:
        """The digest of an image's files (names, modes, owners, links, contents; no times), by
        reading them all: equal for two builds that came to the same. Raises as `find`."""
        ...

    async def tag(self, reference: str, name: str) -> None:
        """Give an image one more name. Raises as `find`, and Refused (a base has that name)."""
        ...

    async def verify(self, reference: str | None) -> Verified:
        """Read every byte of an image's layers, or of all layers. A damaged one is done anew by
        the next build that comes to its step. Raises as `find`."""
        ...

    async def remove(self, reference: str, in_use: Mapping[str, str]) -> Freed:
        """Take a name away, and the image with it when it was the last one. `in_use` maps
        digests of images that must stay to who needs them.

        Raises:
            Refused: somebody needs the image. Else as `find`.
        """
        ...

    async def prune(self, in_use: Mapping[str, str], *, everything: bool) -> Freed:
        """Remove images without a name that nobody needs, and layers of no image. What was built
        or used as cache within the last hour stays, unless `everything`."""
        ...

    async def create_fork(self, frozen: Path, path: Path) -> None:
        """An overlay of another disk of the same size, which must stay as it is."""
        ...

    async def create_disk(self, digest: str, path: Path, size_bytes: int | None) -> None:
        """A fresh overlay over the image's top layer, atomically; an existing file is kept.
        `size_bytes` None keeps the image's virtual size; smaller than it is refused."""
        ...

    def boot_files(self, manifest: ImageManifest) -> tuple[Path | None, Path | None]:
        """Kernel and initrd; both None: the image has a boot loader of its own."""
        ...
