"""When an environment ends by itself: after a time, or with a process."""

from __future__ import annotations

import re

from vmorch.errors import NotFound, UsageError

_TIME = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)", re.ASCII)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """`90s`, `30m`, `2h`, `1h30m` in seconds.

    Raises:
        UsageError: the form is another, or it is no time at all.
    """
    parts = _TIME.findall(text)
    total = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or total <= 0:
        raise UsageError(f"'{text}' is not a time.", hint="Such as 90s, 30m, 2h, 1d, or 1h30m.")
    return total


def holder_of(pid: int) -> str:
    """What tells the process from a later one of the same number (see `Processes.identity`).

    Raises:
        NotFound: there is no such process. UsageError: it may not be looked at.
    """
    from vmorch.effects import SystemProcesses

    try:
        identity = SystemProcesses().identity(pid) if pid > 0 else None
    except OSError as error:
        raise UsageError(
            f"The process {pid} cannot be looked at: {error.strerror}.", hint="Name one of yours."
        ) from error
    if identity is None:
        raise NotFound(f"There is no process {pid}.", hint="Name one that runs, such as $$.")
    return identity
