"""Names of users and groups, as the image's own /etc/passwd and /etc/group have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_DIGITS = 10


class UnknownUser(Exception):
    """The image has no such user or group; the text names it."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who a step runs as. `groups` are the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def _rows(path: Path, columns: int, numbers: Sequence[int]) -> list[list[str]]:
    """Lines of a colon-separated table that have these numbers; a missing table is empty."""
    try:
        lines = path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    rows = [row for line in lines if len(row := line.split(":")) >= columns]
    return [row for row in rows if all(_is_number(row[column]) for column in numbers)]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


def account(text: str, root: Path = Path("/")) -> Account:
    """`name`, `uid`, or either with `:group`. Numbers need not be in the tables.

    Raises:
        UnknownUser: a name is not there.
    """
    user, colon, group = text.partition(":")
    rows = _rows(root / "etc/passwd", 7, (2, 3))
    found = next((row for row in rows if user in {row[0], row[2]}), None)
    if found is None and not _is_number(user):
        raise UnknownUser(f"the image has no user '{user}'")
    uid = int(found[2]) if found else int(user)
    gid = int(found[3]) if found else 0
    home = found[5] if found else "/"
    if colon:
        return Account(uid, _group(group, root), (), home)
    name = found[0] if found else user
    members = [r for r in _rows(root / "etc/group", 4, (2,)) if name in r[3].split(",")]
    return Account(uid, gid, tuple(int(row[2]) for row in members), home)


def owner(text: str, root: Path = Path("/")) -> tuple[int, int]:
    """`--chown`: without a group, the group has the user's number (Docker's reference)."""
    user, colon, group = text.partition(":")
    uid = account(user, root).uid
    return uid, _group(group, root) if colon and group else uid


def _group(text: str, root: Path) -> int:
    if _is_number(text):
        return int(text)
    for row in _rows(root / "etc/group", 3, (2,)):
        if row[0] == text:
            return int(row[2])
    raise UnknownUser(f"the image has no group '{text}'")
