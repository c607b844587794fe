"""Numbers with units as Compose writes them: durations, byte sizes, CPUs, ports; and what HTTP has:
paths, headers, hosts."""

from __future__ import annotations

import re

KIB = 1024
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_UNIT_BYTES = {"": 1, "k": KIB, "m": KIB**2, "g": KIB**3, "t": KIB**4, "p": KIB**5}

# Each pattern is the whole of what is accepted, also in the JSON Schema.
DURATION = r"0|(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:h|ms|m|s|us|µs|ns)){1,6}"
BYTES = r"[0-9]{1,18}(?:\.[0-9]{1,9})? ?(?:[kKmMgGtTpP][iI]?)?[bB]?"
DECIMAL = r"[0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9}"
PORT = r"(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
HEADER_NAME = r"[A-Za-z0-9_-]{1,100}"
# Printable, and without the quote that ends a text for HAProxy; nor the one word that ends a
# condition there.
HEADER_VALUE = r"(?!}$)[ -&(-~]{1,200}"
# As HAProxy sends it; a space would end it.
CHECK_PATH = r"/[!-&(-~]{0,1000}"
ROUTE_PATH = r"/[A-Za-z0-9._~!&()*+,;=:@%/-]{0,1000}"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
ROUTE_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,20}}"
# A rule of HAProxy has at most 64 words, of which host and path take 17 and a header 7.
MOST_HEADERS = 6
MOST_BODY_BYTES = 64 * KIB**4
MOST_MAINTENANCE = 500
"""Characters."""
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
IPV4 = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
SUBNET_24 = rf"(?:{_OCTET}\.){{3}}0/24"


def duration_seconds(text: str) -> float:
    """Seconds of a text that matches DURATION: `1m30s` is 90."""
    parts = re.findall(r"([0-9.]+)(h|ms|m|s|us|µs|ns)", text)
    return round(sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts), 9)


def duration_text(seconds: float) -> str:
    """The shortest text that `duration_seconds` reads back."""
    for unit in ("h", "m"):
        if seconds and seconds % _UNIT_SECONDS[unit] == 0:
            return f"{int(seconds / _UNIT_SECONDS[unit])}{unit}"
    return f"{decimal_text(seconds)}s"


def byte_count(text: str) -> int:
    """Bytes of a text that matches BYTES: `256M`, `1g`, `512mb` and `1.5GiB` are powers of 1024."""
    number, unit = re.fullmatch(r"([0-9.]+) ?([a-zA-Z]?).*", text.lower()).groups()  # type: ignore[union-attr]
    factor = _UNIT_BYTES["" if unit == "b" else unit]
    return round(float(number) * factor) if "." in number else int(number) * factor


def byte_text(count: int) -> str:
    """The shortest text that `byte_count` reads back."""
    for unit in ("t", "g", "m", "k"):
        if count and count % _UNIT_BYTES[unit] == 0:
            return f"{count // _UNIT_BYTES[unit]}{unit.upper()}"
    return str(count)


def cpus_text(cpus: float) -> str:
    return decimal_text(cpus)


def port_range(text: str) -> range:
    """`8000-8002` as three ports, `80` as one. Empty when the end is before the start."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def decimal_text(number: float) -> str:
    return f"{number:.9f}".rstrip("0").rstrip(".")
