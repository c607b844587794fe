"""Values of instructions, checked: users, modes, ports, signals. Every function raises BadWord."""

from __future__ import annotations

import posixpath
import re

from vmorch.images.dockerfile.words import BadWord
from vmorch.model.signals import signal_number


def normal_path(path: str) -> str:
    """Without `.`, `..` and double slashes. (normpath keeps two leading ones.)"""
    return "/" + posixpath.normpath(path).lstrip("/")


def user_of(text: str) -> str:
    if not text or text.count(":") > 1 or text.startswith(":") or " " in text:
        raise BadWord(f"'{text}' is no user: NAME, UID, or either with ':GROUP'")
    return text


def owner_of(text: str) -> str:
    if text and (text.count(":") > 1 or " " in text):
        raise BadWord(f"--chown={text}: the form is USER[:GROUP]")
    return text


def size_of(text: str) -> int:
    match = re.fullmatch(r"(\d+)([kmg]?)b?", text.lower())
    if match is None:
        raise BadWord(f"--mount: size={text} is no size such as 64m")
    return int(match[1]) << 10 * " kmg".index(match[2] or " ")


def mode_of(text: str, what: str = "--chmod") -> int | None:
    if not text:
        return None
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:
        raise BadWord(f"{what}={text} is no octal mode such as 755")
    return mode


def ports_of(text: str) -> list[int]:
    numbers, _, protocol = text.partition("/")
    if protocol.lower() not in {"", "tcp"}:
        raise BadWord(f"'{text}': only TCP ports can be exposed; UDP is reached at the instance")
    first, dash, last = numbers.partition("-")
    ends = [first, last] if dash else [first]
    if not all(end.isdigit() and 0 < int(end) < 65536 for end in ends):
        raise BadWord(f"'{text}' is no port: 1 to 65535, or a range of them")
    if int(ends[0]) > int(ends[-1]):
        raise BadWord(f"'{text}' is a range that ends before it begins")
    return list(range(int(ends[0]), int(ends[-1]) + 1))


def signal_of(text: str) -> str:
    try:
        signal_number(text)
    except ValueError as error:
        raise BadWord(str(error)) from error
    upper = text.upper()
    return upper if upper.isdigit() or upper.startswith("SIG") else f"SIG{upper}"
