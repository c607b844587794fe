"""Which files of a build context a COPY names. Pure, but for looking into archives of ADD."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vmorch.images.dockerfile.mistakes import did_you_mean
from vmorch.images.dockerfile.words import BadWord
from vmorch.model.context import (
    ContextEntry,
    glob_expression,
    has_wildcards,
    sorted_entries,
)

_LINKS_LIMIT = 40  # as the kernel's


@dataclass(frozen=True, slots=True)
class Selected:
    """One file or directory. `entries` begin with itself, whose path is "" here; the others'
    paths are relative to it. `name` is what it is called in the context."""

    name: str
    entries: tuple[ContextEntry, ...]


class Context:
    """The entries of a request, checked, to look things up in."""

    def __init__(self, entries: Iterable[ContextEntry]) -> None:
        self._entries = {"": ContextEntry(path="", kind="directory", mode=0o755)}
        for entry in sorted_entries(tuple(entries)):
            self._entries[entry.path] = entry
            above = posixpath.dirname(entry.path)
            while above not in self._entries:
                self._entries[above] = ContextEntry(path=above, kind="directory", mode=0o755)
                above = posixpath.dirname(above)

    def select(self, pattern: str) -> list[Selected]:
        """What a source names, wildcards resolved, in the order of the names.

        Raises:
            BadWord: nothing, or what is no pattern.
        """
        if not has_wildcards(pattern):
            return [self._selected(pattern, pattern)]
        try:
            expressions = [glob_expression(part) for part in pattern.split("/")]
        except ValueError as error:
            raise BadWord(str(error)) from error
        matching = [path for path in self._entries if path and _matches(expressions, path)]
        if not matching:
            raise BadWord(f"'{pattern}' matches no file of the context{self._remedy(pattern)}")
        return [self._selected(path, pattern) for path in sorted(matching)]

    def _selected(self, path: str, pattern: str) -> Selected:
        place = self._followed(path)
        if place is None:
            raise BadWord(f"'{pattern}' is not in the context{self._remedy(pattern)}")
        top = self._entries[place]
        entries = [_moved(top, "")]
        if top.kind == "directory":
            prefix = f"{place}/" if place else ""
            entries += [
                _moved(entry, path.removeprefix(prefix))
                for path, entry in self._entries.items()
                if path and path.startswith(prefix)
            ]
        return Selected(posixpath.basename(path), (entries[0], *sorted_entries(entries[1:])))

    def _followed(self, path: str, links: int = _LINKS_LIMIT) -> str | None:
        """Where a path ends when symlinks in it are followed, never out of the context."""
        place, rest = "", [part for part in path.split("/") if part]
        while rest:
            part = rest.pop(0)
            if part in {".", ".."}:
                place = posixpath.dirname(place) if part == ".." else place
                continue
            here = posixpath.join(place, part)
            entry = self._entries.get(here)
            if entry is None:
                return None
            if entry.kind != "symlink":
                place = here
                continue
            if links == 0:
                return None
            links -= 1
            place = "" if entry.target.startswith("/") else place
            rest = [part for part in entry.target.split("/") if part] + rest
        return place

    def _remedy(self, pattern: str) -> str:
        close = did_you_mean(pattern, list(self._entries))
        return close or " (or .dockerignore leaves it out)"


def _matches(expressions: Sequence[re.Pattern[str]], path: str) -> bool:
    parts = path.split("/")
    return len(parts) == len(expressions) and all(
        expression.fullmatch(part) for expression, part in zip(expressions, parts, strict=True)
    )


def _moved(entry: ContextEntry, path: str) -> ContextEntry:
    return ContextEntry(
        path=path,
        kind=entry.kind,
        mode=entry.mode,
        digest=entry.digest,
        size=entry.size,
        target=entry.target,
    )


def check_entries(entries: Iterable[ContextEntry]) -> str:
    """Why a context that came from outside cannot be trusted; "" when it can."""
    seen: dict[str, str] = {}
    for entry in entries:
        parts = entry.path.split("/")
        if not entry.path or set(parts) & {"", ".", ".."} or "\0" in entry.path + entry.target:
            return f"'{entry.path}' is no relative path"
        if entry.kind not in {"file", "directory", "symlink"}:
            return f"'{entry.path}' is of the unknown kind '{entry.kind}'"
        if entry.path in seen:
            return f"'{entry.path}' appears twice"
        seen[entry.path] = entry.kind
    for path in seen:
        above = posixpath.dirname(path)
        if above and seen.get(above, "directory") != "directory":
            return f"'{path}' lies below '{above}', which is no directory"
    return ""
