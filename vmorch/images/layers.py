"""The store of layers: immutable qcow2 files, each with a record of what it was made from.

    layers/<hex>.qcow2   0444, root's; its header names the parent's file in the same directory
    layers/<hex>.json    the record
    keys/<hex>           which layer a key led to last
    contents/<hex>       digests of files that COPY --from read in a layer

A layer's digest is its key, the digest of everything that it was made from. A key that is built
again (no cache, or the first one is damaged) gets a digest of its own: a file that instances or
other layers stand on is never replaced, and what is built upon it has other keys by itself.
Blocking; call from a thread. One daemon owns the directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from vmorch import durable
from vmorch.images import files, qcow2
from vmorch.images.files import hexadecimal
from vmorch.images.worker.job import Volume

_FULL_BYTES = 16 << 20  # what cannot be allocated any more may leave a little of it


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """`parent` is a layer's digest, "" for a base. `content` is the digest of the file's bytes
    ("" for a base: reading half a gigabyte is not worth it). `seconds` is what it took.

    The root file system begins at `offset_bytes` and has `length_bytes` (0: to the end), in
    sectors of `sector_bytes`: all layers over one base have it in the same place. `depth` counts
    the files below this one."""

    digest: str
    key: str
    parent: str
    created_by: str
    size_bytes: int
    virtual_size_bytes: int
    created_at: float
    seconds: float = 0.0
    content: str = ""
    offset_bytes: int = 0
    length_bytes: int = 0
    file_system: str = "ext4"
    sector_bytes: int = 4096
    depth: int = 0


def rebuilt_digest(key: str, salt: str) -> str:
    """The digest of another layer with the same key."""
    return "sha256:" + hashlib.sha256(f"{key} {salt}".encode()).hexdigest()


class LayerStore:
    def __init__(self, images_dir: Path) -> None:
        self.directory = images_dir / "layers"
        self.temporary = images_dir / "tmp"
        self._keys = images_dir / "keys"
        self._contents = images_dir / "contents"
        # Held while a layer is looked up and marked as used, and while layers are taken away.
        self.guard = threading.RLock()

    def prepare(self) -> None:
        """Make the directories. QEMU's user must pass through to the layers, and no further."""
        for directory, mode in ((self.directory, 0o711), (self.temporary, 0o700)):
            directory.mkdir(mode=mode, parents=True, exist_ok=True)
            directory.chmod(mode)
        for directory in (self._keys, self._contents):
            directory.mkdir(mode=0o700, exist_ok=True)

    def is_full(self) -> bool:
        """So little room is left on the disk that nothing can be built."""
        return shutil.disk_usage(self.temporary).free < _FULL_BYTES

    def path(self, digest: str) -> Path:
        return self.directory / f"{hexadecimal(digest)}.qcow2"

    def volume(self, layer: LayerRecord, disk: Path | None = None) -> Volume:
        """Where a layer's root file system is; `disk` is an overlay of it that is not here yet."""
        return Volume(
            path=str(disk or self.path(layer.digest)),
            offset=layer.offset_bytes,
            length=layer.length_bytes,
            file_system=layer.file_system,
            sector=layer.sector_bytes,
        )

    def record(self, digest: str) -> LayerRecord | None:
        try:
            return LayerRecord(**json.loads(self._record_path(digest).read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None

    def find(self, key: str) -> LayerRecord | None:
        """The layer of this key, if it is there and sound. It counts as used now."""
        with self.guard:
            try:
                digest = (self._keys / hexadecimal(key)).read_text()
            except FileNotFoundError:
                return None
            record = self.record(digest)
            if record is None or self.damage(record):
                return None
            os.utime(self._record_path(digest))
            return record

    def is_taken(self, digest: str) -> bool:
        """A file of this name is there, sound or not."""
        return self.path(digest).exists()

    def damage(self, record: LayerRecord, *, whole: bool = False) -> str:
        """Why the layer must not be used; "" when it is sound. `whole` reads every byte."""
        path = self.path(record.digest)
        try:
            if path.stat().st_size != record.size_bytes:
                return f"{path.name} has {path.stat().st_size} bytes, not {record.size_bytes}"
            backing = self.path(record.parent).name if record.parent else ""
            if qcow2.read_header(path) != qcow2.Header(record.virtual_size_bytes, backing):
                return f"the header of {path.name} is not what was written"
            if whole and record.content and _content(path) != record.content:
                return f"the content of {path.name} is not what was written"
        except FileNotFoundError:
            return f"{path.name} is missing"
        return ""

    def distrust(self, record: LayerRecord) -> None:
        """Let no build find this layer again: its step is done anew. What stands on it keeps it."""
        key = self._keys / hexadecimal(record.key)
        with contextlib.suppress(FileNotFoundError):
            if key.read_text() == record.digest:
                key.unlink()

    def chain(self, digest: str) -> list[LayerRecord]:
        """From the base to this layer; empty when a record on the way is missing."""
        records: list[LayerRecord] = []
        while digest:
            record = self.record(digest)
            if record is None:
                return []
            records.insert(0, record)
            digest = record.parent
        return records

    def create_overlay(self, work: Path, parent: LayerRecord) -> Path:
        """An empty overlay in `work`. Its header already has the name that holds in the store."""
        disk = work / "layer.qcow2"
        backing = self.path(parent.digest).name
        qcow2.create_overlay(disk, backing=backing, size_bytes=parent.virtual_size_bytes)
        return disk

    def publish(self, disk: Path, record: LayerRecord) -> LayerRecord:
        """Give a finished overlay its name, for good. Returns the record with size and content."""
        disk.chmod(0o444)
        size = disk.stat().st_size
        record = LayerRecord(**{**asdict(record), "size_bytes": size, "content": _content(disk)})
        durable.publish(disk, self.path(record.digest))
        self._remember(record)
        return record

    def adopt(self, disk: Path, record: LayerRecord) -> LayerRecord:
        """Take a base's disk in by a hard link: it stays when the base is made anew, for the
        layers that stand on it.

        A base of the same digest but with another file (it was damaged and made again) becomes
        another layer, as its bytes differ.
        """
        final = self.path(record.digest)
        if final.exists() and not final.samefile(disk):
            digest = rebuilt_digest(record.key, f"{record.created_at}")
            record = LayerRecord(**{**asdict(record), "digest": digest})
            final = self.path(digest)
        with contextlib.suppress(FileExistsError):  # another build took it in just now
            final.hardlink_to(disk)
            durable.sync(self.directory)
        final.chmod(0o444)
        if self.record(record.digest) != record:
            self._remember(record)
        os.utime(self._record_path(record.digest))
        return record

    def every(self) -> list[LayerRecord]:
        """All layers with a record, in no order."""
        found = (self.record(f"sha256:{path.stem}") for path in self.directory.glob("*.json"))
        return [record for record in found if record is not None]

    def used_at(self, digest: str) -> float:
        """When a build last wrote or found it (seconds since the epoch); 0: not here."""
        try:
            return self._record_path(digest).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def remove(self, record: LayerRecord) -> int:
        """Delete a layer that nothing stands on; returns the bytes that this frees. The record
        goes last: after a crash in between the layer is damaged, and found the next time."""
        path, freed = self.path(record.digest), 0
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            freed = status.st_blocks * 512 if status.st_nlink == 1 else 0
            path.unlink()
        self.distrust(record)
        self._record_path(record.digest).unlink(missing_ok=True)
        return freed

    def known_content(self, question: str) -> str:
        """What `note_content` was told; "" when it was not."""
        try:
            return (self._contents / hexadecimal(question)).read_text()
        except FileNotFoundError:
            return ""

    def note_content(self, question: str, content: str) -> None:
        """Remember the digest of files in a layer; `question` is that of the layer and paths."""
        files.write(self._contents / hexadecimal(question), content, temporary=self.temporary)

    def forget_contents(self, *, unused_since: float) -> None:
        for path in self._contents.iterdir():
            if path.stat().st_mtime < unused_since:
                path.unlink(missing_ok=True)

    def _remember(self, record: LayerRecord) -> None:
        text = json.dumps(asdict(record), indent=1)
        files.write(self._record_path(record.digest), text, temporary=self.temporary)
        key = self._keys / hexadecimal(record.key)
        files.write(key, record.digest, temporary=self.temporary)

    def _record_path(self, digest: str) -> Path:
        return self.directory / f"{hexadecimal(digest)}.json"

    def sweep(self) -> None:
        """Remove overlays whose record was never written: a crash came between the two."""
        for path in self.directory.glob("*.qcow2"):
            header = qcow2.read_header(path)
            # A base's disk has a second name in `bases/`; an import's has not.
            is_base = header is not None and not header.backing and path.stat().st_nlink > 1
            if not is_base and not path.with_suffix(".json").exists():
                path.unlink()


def _content(path: Path) -> str:
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
