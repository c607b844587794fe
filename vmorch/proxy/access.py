"""The access log: how HAProxy writes it into a ring in its memory, and how that is read. Pure.

A ring costs a request a few microseconds, never waits and never fills a disk; its oldest lines make
way for new ones. It goes with its worker.
Words of the format: HAProxy 2.6 Configuration Manual, 8.2.4 and 3.9 (rings).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

from vmorch.model.access import Access
from vmorch.model.names import backend_owner
from vmorch.proxy.answers import lines
from vmorch.proxy.holding import GATE

RING = "vmorch-access"
_RING_BYTES = 4 * 1024**2
# A URI is cut at 1,024 characters, each of which JSON may write with six.
_LINE_BYTES = 8192

_FORMAT = {
    "time": "%Ts.%ms",
    "client": '"%ci"',
    "http": "%[fc_http_major]",
    "tls": '"%sslv"',
    "method": '"%HM"',
    "host": '"%[var(txn.host),lower,rtrim(.),json(utf8s)]"',
    "uri": '"%[capture.req.uri,json(utf8s)]"',
    "status": "%ST",
    "sent_bytes": "%B",
    "received_bytes": "%U",
    "all": "%Ta",
    "wait": "%Tw",
    "connect": "%Tc",
    "answer": "%Tr",
    "end": '"%ts"',
    "backend": '"%b"',
    "server": '"%s"',
}

# Of a line with an answer; a time that there was not is negative. What a client has written has its
# quotes escaped and looks like none of this.
_TIMES = re.compile(
    r'"wait":(\d+),"connect":(\d+),"answer":(\d+),"end":"[^"]*","backend":"([^"]+)"'
)

SILENT = "    http-request set-log-level silent"


def ring_section() -> list[str]:
    return [
        f"ring {RING}",
        "    format raw",
        f"    maxlen {_LINE_BYTES}",
        f"    size {_RING_BYTES}",
    ]


def log_lines() -> list[str]:
    """Of the frontend; what a backend makes `SILENT` is left out."""
    pairs = ",".join(f'"{name}":{word}' for name, word in _FORMAT.items())
    return [
        f"    log ring@{RING} len {_LINE_BYTES} format raw local0",
        f"    log-format '{{{pairs}}}'",
        # Connections that are opened and left push no request out of the ring.
        "    option dontlognull",
    ]


def read_accesses(text: str) -> list[Access]:
    """The answer to `show events`, and of a HAProxy without the ring, which is an error. Left out
    is what was no request, and so went to no backend, and a line that another version wrote or
    that was too long."""
    found = (_read(line) for line in lines(text) if line.startswith('{"time"'))
    return [access for access in found if access is not None]


def read_answer_times(text: str) -> dict[tuple[str, str], list[float]]:
    """By (environment, service), of the same answer: the seconds from each request to the first
    byte of its answer, the oldest first. A tenth of the work of reading whole lines."""
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for wait, connect, answer, backend in _TIMES.findall(text):
        if (owner := backend_owner(backend)) is not None:
            found[owner].append((int(wait) + int(connect) + int(answer)) / 1000)
    return dict(found)


def _read(line: str) -> Access | None:
    try:
        words = json.loads(line)
        owner = backend_owner(words["backend"])
        return None if owner is None else _access(words, *owner)
    except (ValueError, KeyError):
        return None


def _access(line: dict[str, Any], environment: str, service: str) -> Access:
    return Access(
        time=line["time"],
        environment=environment,
        service=service,
        instance=_instance(line["server"]),
        client=line["client"],
        http=line["http"],
        tls="" if line["tls"] == "-" else line["tls"],
        method=line["method"],
        host=line["host"],
        uri=line["uri"],
        status=line["status"],
        sent_bytes=line["sent_bytes"],
        received_bytes=line["received_bytes"],
        seconds=line["all"] / 1000,
        wait_seconds=_seconds(line["wait"]),
        connect_seconds=_seconds(line["connect"]),
        answer_seconds=_seconds(line["answer"]),
        end=line["end"],
    )


def _instance(server: str) -> str | None:
    """Of one that waited over a reload, only the worker that came after knows the instance."""
    return None if server == GATE or server.startswith("<") else server


def _seconds(milliseconds: int) -> float | None:
    return None if milliseconds < 0 else milliseconds / 1000
