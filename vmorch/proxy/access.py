"""The access log: how HAProxy writes it into a ring in its memory, and how that is read. Pure.

A ring costs a request a few microseconds, never waits and never fills a disk; its oldest lines make
way for new ones. It goes with its worker.
Words of the format: HAProxy 2.6 Configuration Manual, 8.2.4 and 3.9 (rings).
"""

from __future__ import annotations

import json
from typing import Any

from vmorch.model.access import Access
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
    "host": '"%[var(txn.host),json(utf8s)]"',
    "uri": '"%[capture.req.uri,json(utf8s)]"',
    "status": "%ST",
    "sent_bytes": "%B",
    "received_bytes": "%U",
    "all": "%Ta",
    "wait": "%Tw",
    "answer": "%Tr",
    "end": '"%ts"',
    "backend": '"%b"',
    "server": '"%s"',
}

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
    """The answer to `show events`, and of a HAProxy without the ring, which is an error. What was
    no request, and so went to no backend, is left out."""
    lines = (json.loads(line) for line in text.splitlines() if line.startswith('{"time"'))
    return [_access(line) for line in lines if "." in line["backend"]]


def _access(line: dict[str, Any]) -> Access:
    environment, service = line["backend"].split(".")[:2]
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
        answer_seconds=_seconds(line["answer"]),
        end=line["end"],
    )


def _instance(server: str) -> str | None:
    """Of one that waited over a reload, only the worker that came after knows the instance."""
    return None if server == GATE or server.startswith("<") else server


def _seconds(milliseconds: int) -> float | None:
    return None if milliseconds < 0 else milliseconds / 1000
