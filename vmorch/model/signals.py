"""Signals by name, as a Dockerfile's STOPSIGNAL has them, and the numbers that guests are given."""

from __future__ import annotations

import re
import signal

_REAL_TIME = re.compile(r"SIG(RTMIN\+|RTMAX-)([0-9]{1,2})")


def signal_number(text: str) -> int:
    """Of "SIGTERM", "term", "15", "SIGRTMIN+3" and their like.

    Raises:
        ValueError: there is no such signal.
    """
    if re.fullmatch("[0-9]{1,2}", text):
        number = int(text)
    else:
        upper = text.upper()
        number = _named(upper if upper.startswith("SIG") else f"SIG{upper}")
    if not 0 < number <= signal.SIGRTMAX:
        raise ValueError(f"'{text}' is no signal")
    return number


def _named(name: str) -> int:
    """0: there is none of that name."""
    if name in signal.Signals.__members__:
        return signal.Signals[name]
    found = _REAL_TIME.fullmatch(name)
    if found is None:
        return 0
    offset = int(found[2])
    number = signal.SIGRTMIN + offset if found[1] == "RTMIN+" else signal.SIGRTMAX - offset
    return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else 0
