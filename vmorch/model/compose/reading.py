"""What is collected while the user's files are read: problems, and where each path stands."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from vmorch.errors import SpecProblem
from vmorch.model.compose.nodes import Mark

MOST_PROBLEMS = 200

_LAST_PART = re.compile(r"(?:\.[^.\[]*|\[[0-9]+\]|^[^.\[]*)\Z")


class Wrong(Exception):
    """A value is not what its form asks for. Caught by the container that reads it."""

    def __init__(self, message: str, mark: Mark | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.mark = mark


class TooMany(Exception):
    """So much is wrong that looking on would only take time."""


class Reading:
    """Collects the problems of all files and the place of every path that was read.

    `partial` is set while one file of several is read: what it lacks another may have.
    """

    def __init__(self) -> None:
        self.partial = False
        self.problems: dict[SpecProblem, None] = {}
        self._marks: dict[str, Mark] = {}
        self._written: dict[str, str] = {}

    def note(self, path: str, mark: Mark) -> None:
        self._marks[path] = mark

    def note_written(self, path: str, *, as_path: str) -> None:
        """Remember that the user gave the value of `path` by another key."""
        self._written[path] = as_path

    def add(self, mark: Mark, path: str, message: str) -> None:
        """Remember a problem; the same one found twice counts once.

        Raises:
            TooMany: it is one more than anybody reads.
        """
        problem = SpecProblem(mark.file, mark.line, mark.column, path, message)
        self.problems[problem] = None
        if len(self.problems) >= MOST_PROBLEMS:
            raise TooMany

    def add_at(self, path: str, message: str) -> None:
        """Remember a problem at the place of `path`, or of the nearest part around it."""
        path = self._written.get(path, path)
        self.add(self.mark_of(path), path, message)

    def mark_of(self, path: str) -> Mark:
        around = path
        while around and around not in self._marks:
            around = _LAST_PART.sub("", around)
        return self._marks.get(around, Mark(file=""))

    def touches(self, path: str) -> bool:
        """Whether a problem was found at `path` or below it."""
        return any(
            p.path == path or p.path.startswith((f"{path}.", f"{path}[")) for p in self.problems
        )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" when one of `known` is near, else nothing."""
    names = {name.lower(): name for name in known}
    wanted = word[:80].lower()
    near = difflib.get_close_matches(wanted, list(names), n=1, cutoff=0.65)
    if not near:
        near = [name for name in names if _is_part(wanted, name) or _is_swapped(wanted, name)]
    return f" Did you mean '{names[near[0]]}'?" if len(near) == 1 else ""


def _is_part(wanted: str, name: str) -> bool:
    shorter, longer = sorted((wanted, name), key=len)
    return len(shorter) >= 4 and shorter in longer


def _is_swapped(wanted: str, name: str) -> bool:
    """The same letters in another order: in short words, difflib finds that too different."""
    return sorted(wanted) == sorted(name)


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
