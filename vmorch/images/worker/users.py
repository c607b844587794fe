"""Names of users and groups, as the image's own /etc/passwd and /etc/group have them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class UnknownUser(Exception):
    """The image has no such user or group; the text names it."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who a step runs as. `groups` are the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def _rows(path: Path, columns: int) -> list[list[str]]:
    """Lines of a colon-separated table; a missing table is empty."""
    try:
        lines = path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [row for line in lines if len(row := line.split(":")) >= columns]


def account(text: str, root: Path = Path("/")) -> Account:
    """`name`, `uid`, or either with `:group`. Numbers need not be in the tables.

    Raises:
        UnknownUser: a name is not there.
    """
    user, colon, group = text.partition(":")
    rows = _rows(root / "etc/passwd", 7)
    found = next((row for row in rows if user in {row[0], row[2]}), None)
    if found is None and not user.isdigit():
        raise UnknownUser(f"the image has no user '{user}'")
    uid = int(found[2]) if found else int(user)
    gid = int(found[3]) if found else 0
    home = found[5] if found else "/"
    if colon:
        return Account(uid, _group(group, root), (), home)
    name = found[0] if found else user
    members = [row for row in _rows(root / "etc/group", 4) if name in row[3].split(",")]
    return Account(uid, gid, tuple(int(row[2]) for row in members if row[2].isdigit()), home)


def owner(text: str, root: Path = Path("/")) -> tuple[int, int]:
    """`--chown`: without a group, the group has the user's number (Docker's reference)."""
    user, colon, group = text.partition(":")
    uid = account(user, root).uid
    return uid, _group(group, root) if colon and group else uid


def _group(text: str, root: Path) -> int:
    if text.isdigit():
        return int(text)
    for row in _rows(root / "etc/group", 3):
        if row[0] == text:
            return int(row[2])
    raise UnknownUser(f"the image has no group '{text}'")
