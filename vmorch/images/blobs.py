"""Contents that clients sent, by digest: `blobs/<2>/<62 more>`. Blocking; call from a thread."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vmorch import durable
from vmorch.errors import UsageError
from vmorch.images.files import hexadecimal


class BlobStore:
    def __init__(self, directory: Path, *, temporary: Path) -> None:
        self._directory = directory
        self._temporary = temporary

    def prepare(self) -> None:
        """Make the directory: what clients send is nobody else's business."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where this content lies if it is there.

        Raises:
            UsageError: not a digest.
        """
        try:
            name = hexadecimal(digest)
        except ValueError as error:
            raise UsageError(f"{error}.") from error
        return self._directory / name[:2] / name[2:]

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Those that are not here. The others count as used now, for `collect`."""
        lacking = []
        for digest in dict.fromkeys(digests):
            try:
                os.utime(self.path(digest))
            except FileNotFoundError:
                lacking.append(digest)
        return lacking

    def has(self, digest: str, size: int) -> bool:
        """With this size. One that is damaged goes, so that `missing` asks for it again."""
        path = self.path(digest)
        with contextlib.suppress(OSError):
            if path.stat().st_size == size:
                return True
        path.unlink(missing_ok=True)
        return False

    def has_whole(self, digest: str) -> bool:
        """The same by reading it: for a content whose size nobody told."""
        path = self.path(digest)
        with contextlib.suppress(OSError), path.open("rb") as stream:
            os.utime(stream.fileno())
            if f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" == digest:
                return True
        path.unlink(missing_ok=True)
        return False

    def put(self, digest: str, content: Path) -> None:
        """Move the file `content` in.

        Raises:
            UsageError: its content has another digest; the file is removed.
        """
        final = self.path(digest)
        with content.open("rb") as stream:
            found = "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
        if found != digest:
            content.unlink()
            raise UsageError(
                f"The content that was sent as {digest} is {found}.",
                hint="The file changed while it was read; send it again.",
            )
        final.parent.mkdir(mode=0o700, exist_ok=True)
        content.chmod(0o400)
        try:
            durable.publish(content, final)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            near = self._fresh()
            shutil.copyfile(content, near)
            durable.publish(near, final)
            content.unlink()

    def put_bytes(self, data: bytes) -> str:
        """Store a small content that was made here; returns its digest."""
        name = hashlib.sha256(data).hexdigest()
        digest = f"sha256:{name}"
        if not self.has(digest, len(data)):
            near = self._fresh()
            near.write_bytes(data)
            self.put(digest, near)
        return digest

    def _fresh(self) -> Path:
        descriptor, name = tempfile.mkstemp(dir=self._temporary, prefix="blob-")
        os.close(descriptor)
        return Path(name)

    def collect(self, *, unused_since: float) -> int:
        """Remove what nobody asked for since then (seconds since the epoch); returns bytes."""
        freed = 0
        for path in self._directory.glob("??/*"):
            status = path.stat()
            if status.st_mtime < unused_since:
                path.unlink(missing_ok=True)
                freed += status.st_size
        return freed
