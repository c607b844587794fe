"""One command in a guest between an SSH channel and a client's frames.

Four threads that block and never poll, so that a key stroke's echo waits for nobody: one reads
the client, one writes the command's input, one or two read its output. Input has its own, as a
command that does not read would otherwise hold up signals and hide that the client left.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable

import paramiko

from vmorch.errors import GuestError, UsageError
from vmorch.guest import commands
from vmorch.guest.frame_socket import FrameSocket
from vmorch.guest.ssh import Terminal, start_command
from vmorch.model import frames
from vmorch.model.frames import Frame, FrameType

_CHUNK_BYTES = 32 * 1024
_INPUT_CHUNKS = 16
_LOOK_SECONDS = 1.0
_GONE = (OSError, paramiko.SSHException, EOFError)


class SshSession:
    """Runs `line` over `transport` for `client` until one of the three ends."""

    def __init__(
        self,
        client: FrameSocket,
        transport: paramiko.Transport,
        *,
        token: str,
        line: str,
        terminal: Terminal | None,
        timeout_seconds: float,
    ) -> None:
        self._client = client
        self._transport = transport
        self._token = token
        self._terminal = terminal
        self._channel = start_command(transport, line, terminal, timeout_seconds)
        self._input: queue.Queue[bytes | None] = queue.Queue(_INPUT_CHUNKS)
        self._over = threading.Event()

    def run(self) -> None:
        """Blocks until the command or the client ended; the client has its EXIT or ERROR then."""
        channel = self._channel
        helpers = [
            _thread(self._read_client),
            _thread(self._write_input),
        ]
        outputs = [_thread(lambda: self._pump(channel.recv, FrameType.STDOUT))]
        if self._terminal is None:
            outputs.append(_thread(lambda: self._pump(channel.recv_stderr, FrameType.STDERR)))
        for output in outputs:
            output.join()
        code = channel.recv_exit_status()
        # Before the client hears of it: that it leaves then is no reason to hang up.
        self._over.set()
        self._say_end(code)
        channel.close()
        self._client.end()
        with contextlib.suppress(queue.Full):
            self._input.put_nowait(None)
        for helper in helpers:
            helper.join()

    def _say_end(self, code: int) -> None:
        if code >= 0:
            self._client.send(frames.exit_(code))
        else:
            self._client.send_error(
                GuestError(
                    "The connection to the guest was lost before the command ended.",
                    hint="See 'vmorch ps' for how the instance is.",
                )
            )

    def _pump(self, receive: Callable[[int], bytes], kind: FrameType) -> None:
        with contextlib.suppress(*_GONE):
            while data := receive(_CHUNK_BYTES):
                if not self._client.send(Frame(kind, data)):
                    return

    def _read_client(self) -> None:
        try:
            for frame in self._client.receive():
                self._take(frame)
        except UsageError as error:
            self._client.send_error(error)
        if not self._over.is_set():
            self._hang_up()

    def _take(self, frame: Frame) -> None:
        match frame.type:
            case FrameType.STDIN:
                self._put_input(frame.payload)
            case FrameType.STDIN_END:
                self._put_input(None)
            case FrameType.RESIZE:
                self._resize(frame)
            case FrameType.SIGNAL:
                self._send_signal(frame.payload.decode("ascii", "replace"))
            case _:
                raise UsageError(f"A client does not send {frame.type.name} frames.")

    def _put_input(self, data: bytes | None) -> None:
        """Waits for the command to read, but not beyond the session's or the client's end."""
        while not self._over.is_set() and not self._client.gone():
            with contextlib.suppress(queue.Full):
                self._input.put(data, timeout=_LOOK_SECONDS)
                break

    def _write_input(self) -> None:
        with contextlib.suppress(*_GONE):
            while (data := self._input.get()) is not None:
                self._channel.sendall(data)
            self._channel.shutdown_write()

    def _resize(self, frame: Frame) -> None:
        columns, rows = frames.resize_of(frame)
        if self._terminal is not None:
            with contextlib.suppress(*_GONE):
                self._channel.resize_pty(columns, rows)

    def _send_signal(self, name: str) -> None:
        """In a channel of its own: sshd before 9.4 refuses signals to root's sessions."""
        line = commands.shell_line(commands.signal(self._token, name))
        with contextlib.suppress(*_GONE, GuestError):
            channel = start_command(self._transport, line, None, commands.SIGNAL_SECONDS)
            channel.settimeout(commands.SIGNAL_SECONDS)
            while channel.recv(_CHUNK_BYTES):
                continue
            channel.close()

    def _hang_up(self) -> None:
        """The client is gone: so must be its command, as a terminal's would be."""
        self._send_signal("HUP")
        self._over.set()
        with contextlib.suppress(*_GONE):
            self._channel.close()


def _thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, name="exec-session", daemon=True)
    thread.start()
    return thread
