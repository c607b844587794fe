"""Resolved steps of a Dockerfile -> what the worker is told, and the key of the layer."""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vmorch.images import keys
from vmorch.images.archives import is_archive
from vmorch.images.blobs import BlobStore
from vmorch.images.contexts import item_of
from vmorch.images.dockerfile.steps import CopyStep, RunStep
from vmorch.images.dockerfile.words import BadWord
from vmorch.images.selection import Context, Selected
from vmorch.images.worker.job import CopyAction, MountAction, RunAction, Source, Volume
from vmorch.images.writer import Action
from vmorch.model.context import ContextEntry
from vmorch.model.stepnet import StepNetwork

# Has the content of a step's URL put among the blobs, unless it is there.
Fetch = Callable[[CopyStep], Awaitable[None]]

# Debian and its kin; then Fedora and its.
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


def host_certificates() -> str:
    """The host's bundle of trusted authorities, "" when it has none."""
    return next((path for path in _BUNDLES if Path(path).is_file()), "")


def run_action(
    step: RunStep,
    network: StepNetwork,
    mounts: tuple[MountAction, ...],
    secrets: Mapping[str, str],
) -> RunAction:
    """`secrets` are variables that come beside the step's own."""
    return RunAction(
        argv=step.argv,
        environment={**step.proxies, **step.environment, **secrets},
        user=step.user,
        working_dir=step.working_dir,
        script=step.script,
        namespace=str(network.namespace or ""),
        resolv_conf=network.resolv_conf,
        certificates=host_certificates(),
        mounts=mounts,
    )


class Copying:
    """One COPY or ADD of files from the context (heredocs among them), or of a URL.

    Raises BadWord at once when a source names nothing.
    """

    def __init__(self, step: CopyStep, context: Context, blobs: BlobStore) -> None:
        self._step = step
        self._blobs = blobs
        self._selected = [file for source in step.sources for file in context.select(source)]
        if step.url:
            self._selected = [_remote(step)]
        if len(self._selected) > 1 and not step.into_directory:
            raise BadWord(
                f"{len(self._selected)} files need a directory: end the destination with '/'"
            )
        self._documents = {doc.name: doc.body.encode() for doc in step.documents}

    def key(self, parent: str, directories: Sequence[str]) -> str:
        documents = [_document(name, body) for name, body in self._documents.items()]
        files = [*self._selected, *documents]
        return keys.copy_key(parent, directories, self._step, files=files, source_content="")

    async def prepare(self, fetch: Fetch) -> Action:
        """Raises UsageError when the client has not sent a content, and what `fetch` raises."""
        if self._step.url:
            await fetch(self._step)
        return await asyncio.to_thread(self._prepare)

    def _prepare(self) -> Action:
        for body in self._documents.values():
            self._blobs.put_bytes(body)
        documents = [_document(name, body) for name, body in self._documents.items()]
        sources = tuple(self._source(file) for file in (*self._selected, *documents))
        return Action(copy=_copy_action(self._step, sources))

    def _source(self, file: Selected) -> Source:
        items = tuple(item_of(entry, self._blobs) for entry in file.entries)
        first = items[0]
        is_local = self._step.is_add and not self._step.url
        archive = is_local and first.kind == "file" and is_archive(Path(first.content))
        return Source(name=file.name, items=items, archive=archive)


def image_copy_key(step: CopyStep, content: str, parent: str, directories: Sequence[str]) -> str:
    """`content` is the digest of what --from reads."""
    return keys.copy_key(parent, directories, step, files=(), source_content=content)


def image_copy_action(step: CopyStep, source: Volume) -> Action:
    """COPY --from: the worker itself finds the files in the mounted image."""
    sources = tuple(Source(name="", stage=True, path=path) for path in step.sources)
    return Action(copy=_copy_action(step, sources), sources=(source,))


def _copy_action(step: CopyStep, sources: tuple[Source, ...]) -> CopyAction:
    return CopyAction(
        sources=sources,
        destination=step.destination,
        into_directory=step.into_directory,
        chown=step.chown,
        chmod=step.chmod,
        epoch=step.epoch,
    )


def _remote(step: CopyStep) -> Selected:
    """Its mode is Docker's. The size is not known: the digest is."""
    name = unquote(posixpath.basename(urlsplit(step.url).path))
    if not name and step.into_directory:
        raise BadWord(f"'{step.url}' names no file: end the destination with a file's name")
    return Selected(
        name, (ContextEntry(path="", kind="file", mode=0o600, digest=step.checksum, size=-1),)
    )


def _document(name: str, body: bytes) -> Selected:
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    entry = ContextEntry(path="", kind="file", mode=0o644, digest=digest, size=len(body))
    return Selected(name, (entry,))
