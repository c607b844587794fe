"""Fetches a URL by a process of its own (`worker/fetch.py`), and says what it was."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from vmorch.errors import NetworkError
from vmorch.images import worker_process
from vmorch.images.worker.fetch import FetchJob
from vmorch.model.stepnet import StepNetwork

_CHUNK = 1 << 20
_SPARED_BYTES = 256 << 20  # of the disk, for the guests and for the layer that is to come


@asynccontextmanager
async def fetched(
    url: str,
    *,
    network: StepNetwork,
    proxies: Mapping[str, str],
    certificates: str,
    temporary: Path,
    limit_seconds: float,
    limit_bytes: int | None = None,
) -> AsyncIterator[tuple[Path, str]]:
    """The content in a file, gone afterwards unless it was moved away, and its digest. It may
    have as much as an image's disk that has `limit_bytes`, and as there is room on ours.

    Raises:
        NetworkError: builds have no network, the server did not give it, or it is too large.
        OSError: there is no room after all.
    """
    if network.namespace is None:
        raise NetworkError(
            f"{url} cannot be fetched: builds have no network here.",
            hint="Set 'build_network' to nat in the daemon's settings, or fetch the file yourself.",
        )
    with contextlib.ExitStack() as stack:
        resolv_conf = ""
        if network.resolv_conf:
            resolv_conf, file = _file(temporary, stack)
            file.write(network.resolv_conf.encode())
            file.close()
        path, content = _file(temporary, stack)
        limit, reason = _limit(temporary, limit_bytes)
        job = FetchJob(
            url=url,
            namespace=str(network.namespace),
            resolv_conf=resolv_conf,
            certificates=certificates,
            proxies=dict(proxies),
            limit_bytes=limit,
            limit_reason=reason,
        )
        try:
            async with asyncio.timeout(limit_seconds):
                digest = await _fetch(job, content)
        except TimeoutError as error:
            raise NetworkError(f"{url} took more than {limit_seconds:.0f} s to fetch.") from error
        yield Path(path), digest


def _limit(directory: Path, image_bytes: int | None) -> tuple[int, str]:
    room = max(0, shutil.disk_usage(directory).free - _SPARED_BYTES)
    if image_bytes is None or room < image_bytes:
        return room, f"and so many are free on the disk of {directory.parent}"
    return image_bytes, "the size of the image's disk"


def _file(temporary: Path, stack: contextlib.ExitStack) -> tuple[str, BinaryIO]:
    descriptor, name = tempfile.mkstemp(dir=temporary, prefix="blob-")
    stack.callback(Path(name).unlink, missing_ok=True)
    return name, stack.enter_context(os.fdopen(descriptor, "wb"))


async def _fetch(job: FetchJob, content: BinaryIO) -> str:
    process = await worker_process.start("fetch")
    try:
        digest = await _received(process, job, content)
    finally:
        await asyncio.shield(worker_process.end(process))
    return digest


async def _received(process: Process, job: FetchJob, content: BinaryIO) -> str:
    assert process.stdin is not None and process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(job.to_json().encode())
    process.stdin.close()
    whole = hashlib.sha256()
    while data := await process.stdout.read(_CHUNK):
        whole.update(data)
        await asyncio.to_thread(content.write, data)
    said = (await process.stderr.read()).decode(errors="replace").strip()
    content.flush()
    if await process.wait():
        reason = " ".join(said.split()[-40:]) or "no reason was given"
        raise NetworkError(
            f"{job.url} cannot be fetched: {reason}.",
            hint="See that the address is right, its server answers and there is room for what it "
            "gives. What a Dockerfile names must be reachable from a build step, and so cannot be "
            "on this host.",
            retryable=True,
        )
    return f"sha256:{whole.hexdigest()}"
