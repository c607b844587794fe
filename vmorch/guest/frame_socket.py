"""The client's end of an exec session as a blocking socket of frames."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Iterator

from vmorch.errors import VmorchError
from vmorch.model import frames
from vmorch.model.frames import Frame, FrameType
from vmorch.model.problem import to_problem

_CHUNK_BYTES = 64 * 1024


class FrameSocket:
    """Sending is for any thread, receiving for one. A client that is gone is no error here: what
    is sent to it vanishes, and its frames end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.setblocking(True)
        self._sending = threading.Lock()

    def send(self, frame: Frame) -> bool:
        """Whether the client was still there."""
        try:
            with self._sending:
                self._connection.sendall(frames.encode(frame))
        except OSError:
            return False
        return True

    def send_error(self, error: VmorchError) -> None:
        self.send(Frame(FrameType.ERROR, json.dumps(to_problem(error)).encode()))

    def receive(self) -> Iterator[Frame]:
        """Raises UsageError: what came is no frame."""
        decoder = frames.Decoder()
        while data := self._received():
            yield from decoder.feed(data)

    def gone(self) -> bool:
        """Whether the client has closed its end, with nothing taken from the socket."""
        poll = select.poll()
        poll.register(self._connection, select.POLLRDHUP | select.POLLHUP)
        return bool(poll.poll(0))

    def end(self) -> None:
        """Let the client see the end, and `receive` as well. For any thread."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        self._connection.close()

    def _received(self) -> bytes:
        try:
            return self._connection.recv(_CHUNK_BYTES)
        except OSError:
            return b""
