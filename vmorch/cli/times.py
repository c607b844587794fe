"""Moments as people write them, for --since, and as they read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from vmorch.errors import UsageError

_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?\Z")
_UNITS = (86400, 3600, 60, 1)


def moment(text: str, now: float) -> float:
    """Seconds since the epoch of "10m", "1h30m", "1700000000" or "2026-11-24T10:00:00Z".

    A date without a zone is local time.

    Raises:
        UsageError: it is none of these.
    """
    if (match := _SPAN.match(text)) and text:
        spans = zip(match.groups(), _UNITS, strict=True)
        return now - sum(float(count) * unit for count, unit in spans if count)
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"'{text}' is no time.", hint="Write 10m, 1h30m, 2026-11-24T10:00:00 or seconds."
        ) from error


def shown(time: float) -> str:
    """RFC 3339, in UTC, to the millisecond."""
    stamp = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")
