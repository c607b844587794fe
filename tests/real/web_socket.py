"""A client of a WebSocket (RFC 6455), by hand: what it sends and gets is seen byte for byte."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from dataclasses import dataclass
from enum import IntEnum

_LAST = 0x80
_MASKED = 0x80
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Kind(IntEnum):
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class WebSocket:
    """An open one. Reading raises EOFError when the other side is gone."""

    connection: socket.socket

    def send(self, kind: Kind, message: bytes) -> None:
        """As one frame."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(message))
        self.connection.sendall(bytes([_LAST | kind]) + _length(len(message)) + mask + masked)

    def receive(self) -> tuple[Kind, bytes]:
        first, length = self._exactly(2)
        assert first & _LAST
        assert not length & _MASKED, "a server masks nothing"
        if length >= 126:
            length = int.from_bytes(self._exactly(2 if length == 126 else 8), "big")
        return Kind(first & 0x0F), self._exactly(length)

    def echoed(self, kind: Kind, message: bytes) -> tuple[Kind, bytes]:
        """What comes back for a message."""
        self.send(kind, message)
        return self.receive()

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            part = self.connection.recv(count - len(got))
            if not part:
                raise EOFError("the connection was closed")
            got += part
        return got


def opened(connection: socket.socket, host: str) -> WebSocket:
    """Have a connection become a WebSocket. Raises AssertionError if the server does not grant it
    as the RFC asks."""
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    status, *lines = _head(connection).split("\r\n")
    assert status.startswith("HTTP/1.1 101 "), status
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    accept = base64.b64encode(hashlib.sha1(f"{key}{_GUID}".encode()).digest()).decode()
    assert headers["sec-websocket-accept"] == accept
    assert headers["upgrade"].lower() == "websocket"
    return WebSocket(connection)


def _head(connection: socket.socket) -> str:
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        part = connection.recv(1)
        assert part, got
        got += part
    return got.decode().removesuffix("\r\n\r\n")


def _length(count: int) -> bytes:
    if count < 126:
        return bytes([_MASKED | count])
    size, mark = (2, 126) if count < 65536 else (8, 127)
    return bytes([_MASKED | mark]) + count.to_bytes(size, "big")
