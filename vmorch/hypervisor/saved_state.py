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

import errno
import os
import select
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from vmorch.errors import HypervisorError

_MAGIC = b"LibvirtQemudSave"
_UNFINISHED = b"LibvirtQemudPart"
_VERSION = 2
_FIELDS = struct.Struct("<16s5I")
_HEADER_BYTES = 92
_TEXT_LIMIT = 4 << 20
_PIECE = 1 << 20
_LOOK_SECONDS = 0.002


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


@contextmanager
def open_saved_state(path: Path) -> Iterator[tuple[SavedState, BinaryIO]]:
    """The head of the file at `path`, and the file itself, for `poured`.

    Raises:
        HypervisorError: it cannot be read, or is not what this module describes.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    with file:
        try:
            state = _read(path, file)
        except OSError as error:
            raise _unusable(path, error.strerror or str(error)) from error
        yield state, file


def read_saved_state(path: Path) -> SavedState:
    """The head of the file at `path`.

    Raises:
        HypervisorError: it cannot be read, or is not what this module describes.
    """
    with open_saved_state(path) as (state, _):
        return state


def _read(path: Path, file: BinaryIO) -> SavedState:
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
def poured(state: SavedState, file: BinaryIO, pipes: Path) -> Iterator[Path]:
    """A pipe in a new directory in `pipes`, that gives the head of `state`, then the stream of
    `file`. Whoever reads it does so inside; whether they read to its end is theirs to know. What
    cannot be written to its end ends there, and a reader that fails inside is told why.

    Raises:
        HypervisorError: there is no pipe; or the reader failed, as `file` could not be read.
    """
    pipes.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=pipes) as directory:
        pipe = Path(directory) / "state"
        writer = _Writer(pipe, state.head(), file, state.stream_offset)
        try:
            yield pipe
        except Exception as error:
            trouble = writer.finish()
            if trouble is not None:
                why = trouble.strerror or str(trouble)
                raise _unusable(Path(file.name), why) from error
            raise
        finally:
            writer.finish()


class _Writer:
    """Writes a saved state into a pipe, in a thread of its own.

    Whoever opens the pipe for reading waits until it is open for writing, and libvirt does so
    without end. So it is open from the beginning, whatever befalls the thread, and stays so until
    a reader has come or none will.
    """

    def __init__(self, pipe: Path, head: bytes, file: BinaryIO, offset: int) -> None:
        self._head = head
        self._file = file
        self._offset = offset
        self._trouble: OSError | None = None
        self._over = threading.Event()
        self._out = _open_for_writing(pipe)
        self._thread = threading.Thread(target=self._run, name="fork-writer")
        self._thread.start()

    def finish(self) -> OSError | None:
        """No reader will come any more, and none reads: what kept it from writing, if anything."""
        self._over.set()
        self._thread.join()
        return self._trouble

    def _run(self) -> None:
        try:
            if self._has_reader():
                self._write()
        except BrokenPipeError:
            pass  # A reader that gives up is told by whoever asked it to read.
        except OSError as error:
            self._trouble = error
        finally:
            os.close(self._out)

    def _has_reader(self) -> bool:
        """Whether one has come, once it has or none will. A pipe that nobody reads is in error."""
        look = select.poll()
        look.register(self._out, 0)
        while look.poll(0):
            if self._over.wait(_LOOK_SECONDS):
                return False
        return True

    def _write(self) -> None:
        _write_all(self._out, self._head)
        while moved := _moved(self._file.fileno(), self._out, self._offset):
            self._offset += moved


def _open_for_writing(pipe: Path) -> int:
    """Raises HypervisorError."""
    try:
        os.mkfifo(pipe, 0o600)
        # For reading too it opens at once, and then also for writing alone.
        both = os.open(pipe, os.O_RDWR | os.O_CLOEXEC)
        try:
            return os.open(pipe, os.O_WRONLY | os.O_CLOEXEC)
        finally:
            os.close(both)
    except OSError as error:
        raise HypervisorError(
            f"A pipe for a saved state cannot be made: {error.strerror}.", retryable=True
        ) from error


def _moved(source: int, pipe: int, offset: int) -> int:
    try:
        return os.splice(source, pipe, _PIECE, offset_src=offset)
    except OSError as error:
        if error.errno != errno.EINVAL:  # not every file system can splice
            raise
    data = os.pread(source, _PIECE, offset)
    _write_all(pipe, data)
    return len(data)


def _write_all(pipe: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.write(pipe, data[written:])


def _unusable(path: Path, why: str) -> HypervisorError:
    return HypervisorError(
        f"The saved state {path.name} cannot be used: {why}.",
        hint="It was made by another version of libvirt, or is damaged; guests boot cold instead.",
    )
