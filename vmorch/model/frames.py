"""The frames of an exec session's socket: one byte type, four bytes big-endian length, payload.

    to the daemon     STDIN bytes, STDIN_END, RESIZE (columns, rows as two u16), SIGNAL name
    to the client     STDOUT bytes, STDERR bytes, EXIT (code as i32), ERROR (problem+json)

EXIT or ERROR is the last frame of a session. Numbers are big-endian, a signal's name is that
of RFC 4254, without SIG: INT, TERM.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from vmorch.errors import UsageError

PAYLOAD_LIMIT = 1024 * 1024
_HEADER = struct.Struct(">BI")
_SIZE = struct.Struct(">HH")
_CODE = struct.Struct(">i")


class FrameType(enum.IntEnum):
    STDIN = 0
    STDIN_END = 1
    RESIZE = 2
    SIGNAL = 3
    STDOUT = 4
    STDERR = 5
    EXIT = 6
    ERROR = 7


@dataclass(frozen=True, slots=True)
class Frame:
    type: FrameType
    payload: bytes = b""


def encode(frame: Frame) -> bytes:
    return _HEADER.pack(frame.type, len(frame.payload)) + frame.payload


@dataclass(slots=True)
class Decoder:
    """Takes bytes as they come from a socket, gives whole frames. It holds at most one frame
    beyond what the last `feed` brought."""

    _buffer: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now; exhaust it before the next `feed`.

        Raises:
            UsageError: an unknown type or a payload above PAYLOAD_LIMIT.
        """
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            number, length = _HEADER.unpack_from(self._buffer)
            if number > max(FrameType) or length > PAYLOAD_LIMIT:
                raise UsageError(f"The other side sent a malformed frame ({number}, {length}).")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield Frame(FrameType(number), payload)


def resize(*, columns: int, rows: int) -> Frame:
    return Frame(FrameType.RESIZE, _SIZE.pack(min(columns, 0xFFFF), min(rows, 0xFFFF)))


def resize_of(frame: Frame) -> tuple[int, int]:
    """(columns, rows) of a RESIZE frame. Raises UsageError."""
    columns, rows = _unpacked(_SIZE, frame)
    return columns, rows


def exit_(code: int) -> Frame:
    return Frame(FrameType.EXIT, _CODE.pack(code))


def exit_code_of(frame: Frame) -> int:
    """The code of an EXIT frame. Raises UsageError."""
    (code,) = _unpacked(_CODE, frame)
    return code


def _unpacked(form: struct.Struct, frame: Frame) -> tuple[int, ...]:
    try:
        return form.unpack(frame.payload)
    except struct.error as error:
        raise UsageError(f"A {frame.type.name} frame has a malformed payload.") from error
