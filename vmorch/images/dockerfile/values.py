"""Values of instructions, checked: users, modes, ports, signals. Every function raises BadWord."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from vmorch.images.dockerfile.words import BadWord
from vmorch.model.context import glob_expression, has_wildcards
from vmorch.model.signals import signal_number

_HIGHEST_ID = (1 << 32) - 2
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
NO_GIT = "git sources are not supported; clone in a RUN step"


def normal_path(path: str) -> str:
    """Without `.`, `..` and double slashes. (normpath keeps two leading ones.)"""
    return "/" + posixpath.normpath(path).lstrip("/")


def number_of(text: str) -> int | None:
    """None when it is no whole number of at most ten digits."""
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text) else None


def _too_high(text: str) -> bool:
    """Of a user or group: the kernel has 32 bits for them."""
    numbers = re.findall(r"(?:^|:)([0-9]+)(?=:|\Z)", text)
    return any(len(number) > 10 or int(number) > _HIGHEST_ID for number in numbers)


def user_of(text: str) -> str:
    if not text or text.count(":") > 1 or text.startswith(":") or " " in text or _too_high(text):
        raise BadWord(f"'{text}' is no user: NAME, UID, or either with ':GROUP'")
    return text


def owner_of(text: str) -> str:
    if text and (text.count(":") > 1 or " " in text or _too_high(text)):
        raise BadWord(f"--chown={text}: the form is USER[:GROUP]")
    return text


def id_of(text: str, what: str) -> int:
    number = number_of(text)
    if number is None or number > _HIGHEST_ID:
        raise BadWord(f"--mount: {what}={text} is no number of a user or group")
    return number


def size_of(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,12})([kmg]?)b?", text.lower())
    if match is None:
        raise BadWord(f"--mount: size={text} is no size such as 64m")
    return int(match[1]) << 10 * " kmg".index(match[2] or " ")


def mode_of(text: str, what: str = "--chmod") -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"0*[0-7]{1,4}", text):
        raise BadWord(f"{what}={text} is no octal mode such as 755")
    return int(text, 8)


def ports_of(text: str) -> list[int]:
    numbers, _, protocol = text.partition("/")
    if protocol.lower() not in {"", "tcp"}:
        raise BadWord(f"'{text}': only TCP ports can be exposed; UDP is reached at the instance")
    first, dash, last = numbers.partition("-")
    ends = [number_of(end) or 0 for end in ([first, last] if dash else [first])]
    if not all(0 < end < 65536 for end in ends):
        raise BadWord(f"'{text}' is no port: 1 to 65535, or a range of them")
    if ends[0] > ends[-1]:
        raise BadWord(f"'{text}' is a range that ends before it begins")
    return list(range(ends[0], ends[-1] + 1))


def signal_of(text: str) -> str:
    try:
        signal_number(text)
    except ValueError as error:
        raise BadWord(str(error)) from error
    upper = text.upper()
    return upper if upper.isdigit() or upper.startswith("SIG") else f"SIG{upper}"


def check_pattern(source: str) -> None:
    """Of files in the context or in an image, whose wildcards are looked at later."""
    for part in source.split("/") if has_wildcards(source) else ():
        try:
            glob_expression(part)
        except ValueError as error:
            raise BadWord(str(error)) from error


def is_url(source: str) -> bool:
    return re.match(r"https?://", source) is not None


def checksum_of(sources: Sequence[str], checksum: str) -> str:
    """That of the source of an ADD that is a URL; "" when there is none."""
    if any(re.match(r"(git|ssh)://|git@", source) for source in sources):
        raise BadWord(NO_GIT)
    remote = [source for source in sources if is_url(source)]
    if not remote:
        if checksum:
            raise BadWord("--checksum is for a URL; files of the context have their own digests")
        return ""
    if not checksum:
        raise BadWord(
            f"'{remote[0]}' needs --checksum=sha256:…: otherwise nobody knows what it will be"
        )
    if len(sources) > 1:
        raise BadWord("--checksum goes with a single source")
    if not _DIGEST.match(checksum):
        raise BadWord(f"--checksum={checksum}: the form is sha256:<64 hexadecimal digits>")
    return checksum
