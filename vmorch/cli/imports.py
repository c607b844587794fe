"""Sends a disk to be imported, or says where it is to be fetched."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from vmorch.errors import NotFound, UsageError

if TYPE_CHECKING:
    from vmorch.cli.progress import Reporter
    from vmorch.client import Client

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})\Z")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


def import_disk(
    client: Client,
    name: str,
    source: str,
    report: Reporter,
    *,
    sha256: str | None,
    insecure: bool,
    partition: int | None,
) -> str:
    """The image's digest.

    Raises:
        UsageError: no digest was given, or the disk is not what it says. NotFound: no such file.
    """
    if sha256 is None and not insecure:
        raise UsageError(
            f"Nobody says what {source} should be.",
            hint="Give --sha256 as its publisher states it, or --insecure to take it as it is.",
        )
    wanted = _digest(sha256) if sha256 else ""
    is_url = re.match(r"https?://", source) is not None
    request = {
        "name": name,
        "url": source if is_url else "",
        "file": "" if is_url else Path(source).name,
        "digest": wanted if is_url else _sent(client, Path(source), wanted),
        "insecure": insecure,
        "partition": partition,
        "proxies": _proxies() if is_url else {},
    }
    return client.import_image(request, lambda line: report.build(name, line))


def _digest(text: str) -> str:
    match = _DIGEST.match(text.lower())
    if match is None:
        raise UsageError(f"--sha256 {text} is not of 64 hexadecimal digits.")
    return f"sha256:{match.group(1)}"


def _sent(client: Client, path: Path, wanted: str) -> str:
    """The digest of the file, which the daemon then has."""
    try:
        with path.open("rb") as content:
            digest = "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()
            if wanted and digest != wanted:
                raise UsageError(
                    f"{path} is {digest}, not {wanted}.",
                    hint="It is damaged, or another version than the one whose digest this is.",
                )
            if client.missing_blobs([digest]):
                content.seek(0)
                client.put_blob(digest, content)
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}.") from error
    return digest


def _proxies() -> dict[str, str]:
    found = {name: os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES}
    return {name: value for name, value in found.items() if value}
