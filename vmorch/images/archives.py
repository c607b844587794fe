"""Whether a file is an archive that ADD unpacks: by its first header alone.

The file may be hostile and this runs in the daemon, so nothing is read that the file asks for:
`tarfile` would take a header of extended attributes into memory, however long it says it is.
"""

from __future__ import annotations

import bz2
import lzma
import tarfile
import zlib
from pathlib import Path

_HEAD_BYTES = 1 << 20  # more than the longest first block of bzip2
_MEMORY_BYTES = 1 << 28


def is_archive(path: Path) -> bool:
    """A tar, as it is or compressed with gzip, bzip2 or xz. Zeros alone are none."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    try:
        tarfile.TarInfo.frombuf(_unpacked(head), "utf-8", "surrogateescape")
    except (tarfile.HeaderError, OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError):
        return False
    return True


def _unpacked(head: bytes) -> bytes:
    size = tarfile.BLOCKSIZE
    if head.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, size)
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor().decompress(head, size)
    if head.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor(memlimit=_MEMORY_BYTES).decompress(head, size)
    return head[:size]
