"""Files of a build context, as the worker is told of them."""

from __future__ import annotations

from vmorch.errors import UsageError
from vmorch.images.blobs import BlobStore
from vmorch.images.worker.job import Item
from vmorch.model.context import ContextEntry


def item_of(entry: ContextEntry, blobs: BlobStore) -> Item:
    """A size below 0 says that the content was fetched and compared.

    Raises UsageError: the client has not sent the content, or it was damaged since.
    """
    content = ""
    if entry.kind == "file":
        if entry.size >= 0 and not blobs.has(entry.digest, entry.size):
            raise UsageError(
                f"The content of {entry.path or 'a file'} ({entry.digest}) is not here whole.",
                hint="Run the command again: it sends what the store lacks.",
            )
        content = str(blobs.path(entry.digest))
    return Item(
        path=entry.path,
        kind=entry.kind,
        mode=entry.mode & 0o7777,
        content=content,
        target=entry.target,
    )
