"""An instance's log files, with what virtlogd has rotated away (`service.log.0` is the newest).

Reading is bounded: by the length of a line here, by the number of lines where it is called.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from vmorch.model.view.stream import LogLine

LINE_LIMIT = 64 * 1024
# journalctl's short-unix form: SECONDS.MICROS host identifier[pid]: text
_SHORT_UNIX = re.compile(r"(\d{6,}\.\d{1,9}) \S+ (?:[^\s:\[]+(?:\[\d+\])?: )?(.*)\Z", re.DOTALL)


def parsed(instance: str, line: bytes) -> LogLine:
    text = line.rstrip(b"\r\n").decode(errors="replace")
    if match := _SHORT_UNIX.match(text):
        return LogLine(instance=instance, time=float(match[1]), line=match[2])
    return LogLine(instance=instance, time=None, line=text)


class LogFile(AbstractContextManager["LogFile"]):
    """One log, read forward from its oldest line; each `lines` call goes on where the last one
    ended, through rotation and truncation."""

    def __init__(self, instance: str, path: Path) -> None:
        self.instance = instance
        self._path = path
        self._open: deque[BinaryIO] = deque()  # the one being read, then those after it
        self._partial = b""
        self._open_newer()

    def lines(self) -> Iterator[LogLine]:
        """All whole lines that are there now."""
        while True:
            if self._open:
                yield from self._rest_of(self._open[0])
            if len(self._open) > 1:
                self._open.popleft().close()
            elif not self._open_newer():
                return

    def rest(self) -> Iterator[LogLine]:
        """The last line, if it has no end yet."""
        if self._partial:
            line, self._partial = self._partial, b""
            yield parsed(self.instance, line)

    def _rest_of(self, file: BinaryIO) -> Iterator[LogLine]:
        if file.tell() > os.fstat(file.fileno()).st_size:
            file.seek(0)  # truncated under us
        while piece := file.readline(LINE_LIMIT - len(self._partial)):
            line, self._partial = self._partial + piece, b""
            if line.endswith(b"\n") or len(line) >= LINE_LIMIT:
                yield parsed(self.instance, line)
            else:
                self._partial = line

    def _open_newer(self) -> bool:
        """Open what came after the file being read; whether there was anything. A file that the
        rotation has dropped by now leaves only newer ones behind."""
        files = list(_opened([*_rotated(self._path), self._path]))
        if self._open:
            mine = _inode(self._open[0])
            place = next((n for n, file in enumerate(files) if _inode(file) == mine), -1)
            for file in files[: place + 1]:
                file.close()
            files = files[place + 1 :]
        self._open.extend(files)
        return bool(files)

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.pop().close()


def _rotated(path: Path) -> list[Path]:
    """The files that were `path` before, oldest first."""
    found = [
        (int(sibling.suffix[1:]), sibling)
        for sibling in path.parent.glob(f"{path.name}.*")
        if sibling.suffix[1:].isdigit()
    ]
    return [sibling for _, sibling in sorted(found, reverse=True)]


def _opened(paths: list[Path]) -> Iterator[BinaryIO]:
    """Each file once: a rotation between two opens shows the same one under its next name."""
    seen = set()
    for path in paths:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue
        if _inode(file) in seen:
            file.close()
        else:
            seen.add(_inode(file))
            yield file


def _inode(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_ino
