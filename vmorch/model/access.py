"""One request that the proxy has answered, as a line of its access log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """`time` is when the request came, seconds since the epoch. `instance` is None where none was
    asked. `uri` is cut after 1,024 characters. `wait_seconds` (for an instance), `connect_seconds`
    and `answer_seconds` (from the connection to the first byte of the answer) are None where it did
    not come so far; `seconds` is all, to the last byte. `tls` is the protocol's version, empty
    without it; `end` HAProxy's word for how the session ended ("--": as it should)."""

    time: float
    environment: str
    service: str
    instance: str | None
    client: str
    http: int
    tls: str
    method: str
    host: str
    uri: str
    status: int
    sent_bytes: int
    received_bytes: int
    seconds: float
    wait_seconds: float | None
    connect_seconds: float | None
    answer_seconds: float | None
    end: str
