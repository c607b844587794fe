"""Resolved steps of a Dockerfile -> what the worker is told, and the key of the layer."""

from __future__ import annotations

import asyncio
import hashlib
import tarfile
from collections.abc import Sequence
from pathlib import Path

from vmorch.errors import UsageError
from vmorch.images import keys
from vmorch.images.blobs import BlobStore
from vmorch.images.dockerfile.stage import CopyStep, RunStep
from vmorch.images.dockerfile.words import BadWord
from vmorch.images.selection import Context, Selected
from vmorch.images.worker.job import CopyAction, Item, RunAction, Source
from vmorch.images.writer import Action
from vmorch.model.context import ContextEntry
from vmorch.model.stepnet import StepNetwork

# Debian and its kin; then Fedora and its.
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


def host_certificates() -> str:
    """The host's bundle of trusted authorities, "" when it has none."""
    return next((path for path in _BUNDLES if Path(path).is_file()), "")


def run_action(step: RunStep, network: StepNetwork) -> Action:
    run = RunAction(
        argv=step.argv,
        environment={**step.proxies, **step.environment},
        user=step.user,
        working_dir=step.working_dir,
        script=step.script,
        namespace=str(network.namespace or ""),
        resolv_conf=network.resolv_conf,
        certificates=host_certificates(),
    )
    return Action(run=run)


class Copying:
    """One COPY or ADD of files from the context (heredocs among them).

    Raises BadWord at once when a source names nothing.
    """

    def __init__(self, step: CopyStep, context: Context, blobs: BlobStore) -> None:
        self._step = step
        self._blobs = blobs
        self._selected = [file for source in step.sources for file in context.select(source)]
        if len(self._selected) > 1 and not step.into_directory:
            raise BadWord(
                f"{len(self._selected)} files need a directory: end the destination with '/'"
            )
        self._documents = {doc.name: doc.body.encode() for doc in step.documents}

    def key(self, parent: str, directories: Sequence[str]) -> str:
        documents = [_document(name, body) for name, body in self._documents.items()]
        files = [*self._selected, *documents]
        return keys.copy_key(parent, directories, self._step, files=files, source_layer="")

    async def prepare(self) -> Action:
        """Raises UsageError when the client has not sent a content."""
        return await asyncio.to_thread(self._prepare)

    def _prepare(self) -> Action:
        for body in self._documents.values():
            self._blobs.put_bytes(body)
        documents = [_document(name, body) for name, body in self._documents.items()]
        sources = tuple(self._source(file) for file in (*self._selected, *documents))
        return Action(copy=_copy_action(self._step, sources))

    def _source(self, file: Selected) -> Source:
        items = tuple(self._item(entry) for entry in file.entries)
        first = items[0]
        archive = self._step.is_add and first.kind == "file" and tarfile.is_tarfile(first.content)
        return Source(name=file.name, items=items, archive=archive)

    def _item(self, entry: ContextEntry) -> Item:
        content = ""
        if entry.kind == "file":
            if not self._blobs.has(entry.digest, entry.size):
                raise UsageError(
                    f"The content of {entry.path or 'a file'} ({entry.digest}) was not sent.",
                    hint="Send the build context again.",
                )
            content = str(self._blobs.path(entry.digest))
        return Item(
            path=entry.path,
            kind=entry.kind,
            mode=entry.mode & 0o7777,
            content=content,
            target=entry.target,
        )


def image_copy_key(step: CopyStep, source_layer: str, parent: str, dirs: Sequence[str]) -> str:
    return keys.copy_key(parent, dirs, step, files=(), source_layer=source_layer)


def image_copy_action(step: CopyStep, source_disk: Path) -> Action:
    """COPY --from: the worker itself finds the files in the mounted image."""
    sources = tuple(Source(name="", stage=True, path=source) for source in step.sources)
    return Action(copy=_copy_action(step, sources), source_disk=str(source_disk))


def _copy_action(step: CopyStep, sources: tuple[Source, ...]) -> CopyAction:
    return CopyAction(
        sources=sources,
        destination=step.destination,
        into_directory=step.into_directory,
        chown=step.chown,
        chmod=step.chmod,
    )


def _document(name: str, body: bytes) -> Selected:
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    entry = ContextEntry(path="", kind="file", mode=0o644, digest=digest, size=len(body))
    return Selected(name, (entry,))
