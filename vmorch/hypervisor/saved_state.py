"""The file that libvirt saves a guest's RAM to, read and given to it again with another head.

    16 bytes   magic: "LibvirtQemudSave"; "LibvirtQemudPart" while it is being written
    5 × u32    version (2), length of the text, was running, compression (0: none), cookie's offset
    56 bytes   reserved
    text       domain XML, NUL, cookie XML, NUL, zeros up to its length
    QEMU's own stream

Little-endian, as the host. It is libvirt's private format (src/qemu/qemu_saveimage.h): whatever
is not as it says here is refused, and the caller boots cold. libvirt compares the XML it is given
beside a file with that in the file, and refuses another name, UUID or MAC; the one in the file
itself it takes as it is. So a fork is a saved guest whose head names another one.

The stream is shared by all forks and never copied: `poured` gives libvirt a pipe into which the
new head is written and the stream spliced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from vmorch.errors import HypervisorError

_MAGIC = b"LibvirtQemudSave"
_UNFINISHED = b"LibvirtQemudPart"
_VERSION = 2
_FIELDS = struct.Struct("<16s5I")
_HEADER_BYTES = 92
_TEXT_LIMIT = 4 << 20
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """The head of a saved state. `room` is the length of its text, XML and cookie in it."""

    xml: str
    cookie: bytes
    was_running: bool
    room: int
    reserved: bytes

    @property
    def stream_offset(self) -> int:
        return _HEADER_BYTES + self.room

    def with_xml(self, xml: str) -> SavedState:
        return replace(self, xml=xml)

    def head(self) -> bytes:
        """The bytes before the stream.

        Raises:
            HypervisorError: the XML is longer than the room for it.
        """
        document = self.xml.encode() + b"\0"
        text = document + self.cookie + b"\0"
        if len(text) > self.room:
            raise HypervisorError(
                f"A domain XML of {len(document)} bytes has no room in the saved state."
            )
        fields = (_VERSION, self.room, int(self.was_running), 0, len(document))
        return _FIELDS.pack(_MAGIC, *fields) + self.reserved + text.ljust(self.room, b"\0")


def read_saved_state(path: Path) -> SavedState:
    """The head of the file at `path`.

    Raises:
        HypervisorError: it cannot be read, or is not what this module describes.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            if len(header) < _HEADER_BYTES:
                raise _unusable(path, "it is cut off")
            magic, version, room, running, compression, offset = _FIELDS.unpack_from(header)
            if magic == _UNFINISHED:
                raise _unusable(path, "it was not finished")
            if magic != _MAGIC:
                raise _unusable(path, "it is no saved state")
            if version != _VERSION:
                raise _unusable(path, f"its version is {version}, not {_VERSION}")
            if compression:
                raise _unusable(path, "it is compressed")
            if not 0 < offset < room <= _TEXT_LIMIT:
                raise _unusable(path, "its head is damaged")
            text = file.read(room)
            rest = os.fstat(file.fileno()).st_size - _HEADER_BYTES - room
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    if len(text) < room or rest <= 0:
        raise _unusable(path, "it is cut off")
    try:
        xml = text[:offset].split(b"\0")[0].decode()
    except UnicodeDecodeError as error:
        raise _unusable(path, "its XML is damaged") from error
    return SavedState(
        xml=xml,
        cookie=text[offset:].split(b"\0")[0],
        was_running=bool(running),
        room=room,
        reserved=header[_FIELDS.size :],
    )


@contextmanager
def poured(state: SavedState, path: Path) -> Iterator[Path]:
    """A pipe that gives the head of `state`, then the stream of the file at `path`. Whoever reads
    it does so inside; whether they read to its end is theirs to know."""
    head = state.head()
    with tempfile.TemporaryDirectory(prefix="vmorch-fork-") as directory:
        pipe = Path(directory) / "state"
        os.mkfifo(pipe, 0o600)
        writer = threading.Thread(
            target=_pour, args=(head, state.stream_offset, path, pipe), name="fork-writer"
        )
        writer.start()
        try:
            yield pipe
        finally:
            _release(pipe, writer)


def _pour(head: bytes, offset: int, path: Path, pipe: Path) -> None:
    # A reader that gives up is told by whoever asked it to read.
    with contextlib.suppress(BrokenPipeError), path.open("rb") as file, pipe.open("wb") as out:
        out.write(head)
        out.flush()
        while moved := _moved(file.fileno(), out.fileno(), offset):
            offset += moved


def _moved(source: int, pipe: int, offset: int) -> int:
    try:
        return os.splice(source, pipe, _PIECE, offset_src=offset)
    except OSError as error:
        if error.errno != errno.EINVAL:  # not every file system can splice
            raise
    data = os.pread(source, _PIECE, offset)
    written = 0
    while written < len(data):
        written += os.write(pipe, data[written:])
    return written


def _release(pipe: Path, writer: threading.Thread) -> None:
    """A writer whose reader never came, or left, waits for one: opened and closed, it ends."""
    while writer.is_alive():
        with contextlib.suppress(OSError):
            os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        writer.join(0.05)


def _unusable(path: Path, why: str) -> HypervisorError:
    return HypervisorError(
        f"The saved state {path.name} cannot be used: {why}.",
        hint="It was made by another version of libvirt, or is damaged; guests boot cold instead.",
    )
