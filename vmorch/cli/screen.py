"""A plain table that is drawn again and again in place, and single keys typed meanwhile."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence

from vmorch.cli.terminal import terminal_size

# xterm's second screen, so that what was there before comes back; home; clear to the end of the
# line, and of the screen.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _LINE_END, _SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"


def show(
    lines: Callable[[], Sequence[str]], *, seconds: float, typed: Callable[[str], bool]
) -> None:
    """Draw `lines()` every `seconds` and after each key, until `typed(key)` says to end."""
    with _screen(), _keys() as keys:
        while True:
            print(framed(lines(), *terminal_size()), end="", flush=True)
            key = _key_within(keys, seconds)
            if key and typed(key):
                return


def framed(lines: Sequence[str], columns: int, rows: int) -> str:
    """As much as fits; the last line is left free, as one that is full would scroll."""
    cut = [line[:columns] + _LINE_END for line in lines[: rows - 1]]
    return _HOME + "\n".join(cut) + "\n" + _SCREEN_END


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    print(_ENTER, end="", flush=True)
    try:
        yield
    finally:
        print(_LEAVE, end="", flush=True)


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """The descriptor of a keyboard that gives each key at once; None without one."""
    if not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _key_within(keys: int | None, seconds: float) -> str:
    """What was typed, or nothing. Also waits where there is no keyboard."""
    readable, _, _ = select.select([] if keys is None else [keys], [], [], seconds)
    return os.read(keys, 1).decode(errors="replace") if keys is not None and readable else ""
