"""What is collected while the user's files are read: problems, and where each path stands."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from vmorch.errors import SpecProblem
from vmorch.model.compose.nodes import Mark

_LAST_PART = re.compile(r"(?:\.[^.\[]*|\[[0-9]+\]|^[^.\[]*)\Z")


class Wrong(Exception):
    """A value is not what its form asks for. Caught by the container that reads it."""

    def __init__(self, message: str, mark: Mark | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.mark = mark


class Reading:
    """Collects the problems of all files and the place of every path that was read."""

    def __init__(self) -> None:
        self.problems: dict[SpecProblem, None] = {}
        self._marks: dict[str, Mark] = {}

    def note(self, path: str, mark: Mark) -> None:
        self._marks[path] = mark

    def add(self, mark: Mark, path: str, message: str) -> None:
        """Remember a problem; the same one found twice counts once."""
        problem = SpecProblem(mark.file, mark.line, mark.column, path, message)
        self.problems[problem] = None

    def add_at(self, path: str, message: str) -> None:
        """Remember a problem at the place of `path`, or of the nearest part around it."""
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
    near = difflib.get_close_matches(word[:80].lower(), list(known), n=1, cutoff=0.65)
    return f" Did you mean '{near[0]}'?" if near else ""


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
