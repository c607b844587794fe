"""A guest's serial console, carried between its descriptor and a client's socket of frames."""

from __future__ import annotations

import os
import select
import socket

from vmorch.errors import UsageError
from vmorch.guest.frame_socket import FrameSocket
from vmorch.model.frames import Decoder, Frame, FrameType, exit_

_CHUNK_BYTES = 16 * 1024


class ConsoleSession:
    """One thread, which waits for whichever side has something. What is typed while the guest
    does not read waits in the client's socket, not here."""

    def __init__(self, connection: socket.socket, console: int) -> None:
        self._connection = connection
        self._client = FrameSocket(connection)
        self._console = console
        self._decoder = Decoder()
        self._typed = bytearray()
        os.set_blocking(console, False)

    def run(self) -> None:
        """Blocks until the client or the guest is gone; the client has its EXIT or ERROR then.
        Both descriptors are closed here, where nobody else uses them any more."""
        try:
            while self._step():
                pass
        except UsageError as error:
            self._client.send_error(error)
        finally:
            os.close(self._console)
            self._client.close()

    def end(self) -> None:
        """Have `run` return soon. For any thread."""
        self._client.end()

    def _step(self) -> bool:
        reading: list[int] = [self._console]
        if not self._typed:
            reading.append(self._connection.fileno())
        writing = [self._console] if self._typed else []
        readable, writable, _ = select.select(reading, writing, [])
        if writable and not self._write():
            return False
        if self._console in readable and not self._show():
            return False
        return self._connection.fileno() not in readable or self._take()

    def _show(self) -> bool:
        try:
            data = os.read(self._console, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        except OSError:  # EIO: the other end of the terminal was QEMU
            data = b""
        if data:
            return self._client.send(Frame(FrameType.STDOUT, data))
        self._client.send(exit_(0))
        return False

    def _take(self) -> bool:
        try:
            data = self._connection.recv(_CHUNK_BYTES)
        except OSError:
            return False
        for frame in self._decoder.feed(data):
            if frame.type is FrameType.STDIN:
                self._typed += frame.payload
        return bool(data)

    def _write(self) -> bool:
        try:
            del self._typed[: os.write(self._console, self._typed)]
        except BlockingIOError:
            return True
        except OSError:
            self._client.send(exit_(0))
            return False
        return True
