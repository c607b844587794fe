"""Build contexts in, images out."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict
from starlette.requests import ClientDisconnect

from vmorch.api.services import ApiServices
from vmorch.api.streams import Rows, ndjson
from vmorch.errors import UsageError
from vmorch.images.protocol import (
    BuildProgress,
    BuildRequest,
    Freed,
    ImportRequest,
    Progress,
    StepState,
)
from vmorch.model.codec import manifest_to_json
from vmorch.model.image import ImageManifest
from vmorch.model.view.image import (
    DamagedLayerView,
    FreedView,
    ImageView,
    LayerView,
    VerifiedView,
)
from vmorch.snapshots.upkeep import keep_only
from vmorch.store.protocol import Store

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
# A client that reads slower than a build writes loses output lines, never a step's state.
_LINES_HELD = 10_000


class MissingBlobs(BaseModel):
    model_config = ConfigDict(extra="forbid")
    digests: list[str]


class EnsureImage(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reference: str


class TagImage(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reference: str
    name: str


class VerifyImages(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reference: str | None = None


class PruneImages(BaseModel):
    model_config = ConfigDict(extra="forbid")
    everything: bool = False


def router(services: ApiServices) -> APIRouter:
    routes = APIRouter(tags=["images"])

    @routes.post("/blobs/missing")
    async def missing(body: MissingBlobs) -> dict[str, list[str]]:
        for digest in body.digests:
            _check_digest(digest)
        return {"missing": list(await services.images.missing_blobs(body.digests))}

    @routes.put("/blobs/{digest}", status_code=204)
    async def put_blob(digest: str, request: Request) -> None:
        _check_digest(digest)
        await _receive_blob(services, digest, request)

    @routes.post("/builds")
    async def build(body: BuildRequest) -> StreamingResponse:
        """The build's story as NDJSON; its last line has `image` or `error`. A client that goes
        away cancels the build."""
        return ndjson(_told(lambda progress: services.images.build(body, progress)))

    @routes.post("/images/import")
    async def import_disk(body: ImportRequest) -> StreamingResponse:
        """An image of a disk that was sent as a blob or is fetched; as for builds."""
        for digest in filter(None, [body.digest]):
            _check_digest(digest)
        return ndjson(_told(lambda progress: services.images.import_disk(body, progress)))

    @routes.post("/images/ensure")
    async def ensure(body: EnsureImage) -> StreamingResponse:
        """The image behind a name, made if it is a base that is not there yet; as for builds."""
        return ndjson(_told(lambda progress: services.images.ensure(body.reference, progress)))

    @routes.get("/images")
    async def images() -> list[ImageView]:
        return [
            ImageView(
                digest=image.digest,
                names=list(image.names),
                base=image.base,
                size_bytes=image.size_bytes,
                own_bytes=image.own_bytes,
                created_at=image.created_at,
            )
            for image in await services.images.images()
        ]

    @routes.get("/images/inspect")
    async def inspect(reference: str) -> dict[str, Any]:
        """An image's manifest and names."""
        manifest = await services.images.find(reference)
        rows = await services.images.images()
        names = [name for row in rows if row.digest == manifest.digest for name in row.names]
        return {"names": names, **manifest_to_json(manifest)}

    @routes.get("/images/content")
    async def content(reference: str) -> dict[str, str]:
        """The digest of an image's files: it is mounted and read."""
        return {"content": await services.images.content(reference)}

    @routes.get("/images/history")
    async def history(reference: str) -> list[LayerView]:
        layers = await services.images.history(reference)
        return [LayerView(**asdict(layer)) for layer in layers]

    @routes.post("/images/verify")
    async def verify(body: VerifyImages) -> VerifiedView:
        """Read every byte of one image's layers, or of all. Damaged ones are built anew later."""
        found = await services.images.verify(body.reference)
        return VerifiedView(
            layers=found.layers,
            bytes_read=found.bytes_read,
            damaged=[
                DamagedLayerView(digest=d.digest, reason=d.reason, images=list(d.images))
                for d in found.damaged
            ],
        )

    @routes.post("/images/tag", status_code=204)
    async def tag(body: TagImage) -> None:
        await services.images.tag(body.reference, body.name)

    @routes.delete("/images")
    async def remove(reference: str) -> FreedView:
        in_use = await images_in_use(services.store)
        freed = await services.images.remove(reference, in_use)
        return _freed(freed, await _unfounded(services))

    @routes.post("/images/prune")
    async def prune(body: PruneImages) -> FreedView:
        in_use = await images_in_use(services.store)
        freed = await services.images.prune(in_use, everything=body.everything)
        return _freed(freed, await _unfounded(services))

    return routes


async def images_in_use(store: Store) -> dict[str, str]:
    """Images that must stay, and for whom: all revisions, as any can be rolled back to, and with
    them those of all instances."""
    needed: dict[str, str] = {}
    for environment in await store.environments():
        for revision in await store.revisions(environment.name):
            who = f"revision {revision.number} of {environment.name}/{revision.service}"
            needed[revision.spec.image] = who
        for service in environment.spec.services.values():
            needed[service.image] = f"the service {environment.name}/{service.name}"
    return needed


async def _unfounded(services: ApiServices) -> dict[str, int]:
    """Take away the warm snapshots whose image is gone; keys, and the bytes freed."""
    images = {image.digest for image in await services.images.images()}
    return await keep_only(services.snapshots, images)


def _freed(freed: Freed, snapshots: dict[str, int]) -> FreedView:
    return FreedView(
        names=list(freed.names),
        images=list(freed.images),
        layers=list(freed.layers),
        snapshots=list(snapshots),
        bytes_freed=freed.bytes_freed + sum(snapshots.values()),
    )


def _check_digest(text: str) -> None:
    if not _DIGEST.match(text):
        raise UsageError(f"'{text}' is not a digest (sha256: and 64 hexadecimal digits).")


async def _receive_blob(services: ApiServices, digest: str, request: Request) -> None:
    directory = services.settings.images_dir / "tmp"
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=directory, prefix="blob-", delete=False) as file:
        path = Path(file.name)
        try:
            async for chunk in request.stream():
                await asyncio.to_thread(file.write, chunk)
            file.flush()
            await services.images.put_blob(digest, path)
        except ClientDisconnect as error:
            raise UsageError(f"The client went away while it sent {digest}.") from error
        finally:
            path.unlink(missing_ok=True)


async def _told(
    work: Callable[[Progress], Coroutine[Any, Any, ImageManifest]],
) -> AsyncIterator[Rows]:
    """What `work` says while it runs, then the image. Ended from outside, it ends `work`."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[BuildProgress | None] = asyncio.Queue()

    def take(line: BuildProgress) -> None:
        if line.state is not StepState.OUTPUT or lines.qsize() < _LINES_HELD:
            lines.put_nowait(line)

    def progress(line: BuildProgress) -> None:
        loop.call_soon_threadsafe(take, line)  # builders report from their worker threads

    task = asyncio.create_task(work(progress), name="image-build")
    task.add_done_callback(lambda _: loop.call_soon(lines.put_nowait, None))
    try:
        while (line := await lines.get()) is not None:
            yield [asdict(line)]
        yield [{"image": manifest_to_json(await task)}]
    finally:
        task.cancel()
        await asyncio.wait([task])
