"""The client's end of an exec session: this terminal (or pipe) to a socket of frames and back."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

from vmorch.errors import VmorchError
from vmorch.model.frames import Decoder, Frame, FrameType, encode, exit_code_of, resize
from vmorch.model.problem import from_problem

_CHUNK = 32 * 1024
_PASSED_ON = {signal.SIGINT: b"INT", signal.SIGTERM: b"TERM", signal.SIGHUP: b"HUP"}
# After that many interrupts without an end, this end gives up on the other.
_PATIENCE = 3


def terminal_size() -> tuple[int, int]:
    """Columns and rows of this terminal; 80 and 24 without one."""
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(descriptor)
            if size.columns and size.lines:
                return size.columns, size.lines
    return 80, 24


# Ctrl-], which ends a console's session as it does one of telnet or virsh.
_ESCAPE = b"\x1d"


def run_session(
    path: Path,
    *,
    tty_wanted: bool,
    escape: bool = False,
    input_from: int = 0,
    output_to: int = 1,
) -> int:
    """Connect to the session at `path` and carry bytes, resizes and signals until it ends.

    With `escape`, Ctrl-] ends it from here with 0, and signals are for this program.

    Returns:
        The exit code of the command in the guest.

    Raises:
        VmorchError: the session ended with an error, or without an exit code.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except OSError as error:
            raise VmorchError(
                f"The session at {path} cannot be joined: {error.strerror}.",
                hint="Sessions are for root and the daemon's group; see 'vmorch doctor'.",
            ) from error
        connection.setblocking(False)
        with _signals(passed_on=not escape) as caught, _raw_terminal(tty_wanted):
            return _Session(
                connection,
                caught,
                tty_wanted=tty_wanted,
                escape=escape,
                input_from=input_from,
                output_to=output_to,
            ).run()


class _Session:
    """Nothing here may block on the socket's write side alone: a guest that prints while it
    does not read would wait for us as we wait for it."""

    def __init__(
        self,
        connection: socket.socket,
        caught: int,
        *,
        tty_wanted: bool,
        escape: bool,
        input_from: int,
        output_to: int,
    ) -> None:
        self._connection = connection
        self._caught = caught
        self._tty = tty_wanted
        self._escape = escape
        self._input = input_from
        self._output = output_to
        self._outgoing = bytearray()
        self._input_open = True
        self._interrupts = 0
        self._decoder = Decoder()

    def run(self) -> int:
        while True:
            reading: list[int] = [self._connection.fileno(), self._caught]
            if self._input_open and not self._outgoing:
                reading.append(self._input)
            writing = [self._connection.fileno()] if self._outgoing else []
            readable, writable, _ = select.select(reading, writing, [])
            if writable:
                self._flush()
            if self._caught in readable:
                self._take_signals()
            if self._input in readable and not self._take_input():
                return 0
            if self._connection.fileno() in readable:
                code = self._take_frames()
                if code is not None:
                    return code

    def _send(self, frame: Frame) -> None:
        self._outgoing += encode(frame)

    def _flush(self) -> None:
        try:
            sent = self._connection.send(self._outgoing)
        except BlockingIOError:
            return
        except OSError:
            self._outgoing.clear()  # the other side has ended; its last frames tell how
            self._input_open = False
            return
        del self._outgoing[:sent]

    def _take_input(self) -> bool:
        """False when the user wants to leave."""
        data = os.read(self._input, _CHUNK)
        if self._escape and _ESCAPE in data:
            return False
        if data:
            self._send(Frame(FrameType.STDIN, data))
        else:
            self._input_open = False
            self._send(Frame(FrameType.STDIN_END))
        return True

    def _take_signals(self) -> None:
        for number in os.read(self._caught, 64):
            if number == signal.SIGWINCH and self._tty:
                columns, rows = terminal_size()
                self._send(resize(columns=columns, rows=rows))
            elif number in _PASSED_ON:
                self._interrupts += 1
                if self._interrupts > _PATIENCE:
                    raise KeyboardInterrupt
                self._send(Frame(FrameType.SIGNAL, _PASSED_ON[signal.Signals(number)]))

    def _take_frames(self) -> int | None:
        """Write what came; the exit code once it has come."""
        try:
            data = self._connection.recv(_CHUNK)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            data = b""
        if not data:
            raise VmorchError(
                "The session ended without an exit code.",
                hint="Did the guest or the daemon end? See 'vmorch ps' and 'vmorch events'.",
            )
        for frame in self._decoder.feed(data):
            match frame.type:
                case FrameType.STDOUT:
                    _write(self._output, frame.payload)
                case FrameType.STDERR:
                    _write(sys.stderr.fileno(), frame.payload)
                case FrameType.EXIT:
                    return exit_code_of(frame)
                case FrameType.ERROR:
                    raise from_problem(json.loads(frame.payload))
                case _:
                    pass  # frames of the other direction mean nothing here
        return None


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def _signals(*, passed_on: bool) -> Iterator[int]:
    """A descriptor from which the numbers of caught signals can be read, one byte each."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    names = [signal.SIGWINCH, *(_PASSED_ON if passed_on else ())]
    before = {name: signal.signal(name, _ignored) for name in names}
    wakeup = signal.set_wakeup_fd(writer)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for name, handler in before.items():
            signal.signal(name, handler)
        os.close(reader)
        os.close(writer)


def _ignored(*_: object) -> None:
    """The number arrives through the wake-up descriptor."""


@contextlib.contextmanager
def _raw_terminal(wanted: bool) -> Iterator[None]:
    """With a terminal in the guest this one passes every key on, Ctrl-C too."""
    if not wanted or not os.isatty(0):
        yield
        return
    before = termios.tcgetattr(0)
    # Not flushed: what was typed while the session came up is for the session.
    tty.setraw(0, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
