"""What HAProxy's sockets answer, as values. Pure: `admin.py` asks, these functions read.

Formats: HAProxy 2.6 Management Guide, 9.3 (`show servers state`, `show stat`) and 9.4
(`show proc`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vmorch.errors import ProxyError
from vmorch.proxy.answers import lines, read_pid, read_table
from vmorch.proxy.holding import GATE
from vmorch.proxy.protocol import ServerStatus

_MARKER = re.compile(r"^description: vmorch ([0-9a-f]{16})$", re.MULTILINE)
_MASTER = re.compile(r"^\d+\s+master\s+(\d+) \[failed: (\d+)\]", re.MULTILINE)
_WORKER = re.compile(r"^(\d+)\s+worker\b", re.MULTILINE)

# Bits of srv_admin_state (SRV_ADMF_*) and srv_check_state (CHK_ST_*).
_FORCED_MAINTENANCE = 0x01
_FORCED_DRAIN = 0x08
_CHECK_ENABLED = 0x04


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    id: int
    address: str
    port: int
    weight: int
    maintenance: bool
    drained: bool
    checked: bool

    @property
    def admitted(self) -> bool:
        return not (self.maintenance or self.drained)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningWorker:
    """`marker` is the structure it was started with, None when the file was not ours.
    `servers`: backend -> server's name -> server; a backend without servers is not in it."""

    pid: int
    marker: str | None
    servers: Mapping[str, Mapping[str, RunningServer]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """`reloads` counts the master's attempts, `failed` those since the last success.
    `leaving` are old workers that still serve their connections."""

    reloads: int
    failed: int
    worker: int | None
    leaving: tuple[int, ...]


def read_worker(text: str) -> RunningWorker:
    """The answers to `show info` and `show servers state`, one after the other.

    Raises:
        ProxyError: that is not what HAProxy answered.
    """
    pid, marker = read_pid(text), _MARKER.search(text)
    return RunningWorker(pid=pid, marker=marker[1] if marker else None, servers=read_servers(text))


def read_servers(text: str) -> dict[str, dict[str, RunningServer]]:
    """The answer to `show servers state`, wherever it begins in `text`. Read in each cycle,
    a line per server: the columns are looked up once. Gates are of the structure."""
    found: dict[str, dict[str, RunningServer]] = {}
    _, _, table = text.partition("\n# be_id ")
    header, _, rows = table.partition("\n")
    at = {name: number for number, name in enumerate(header.split(" "), start=1)}
    for line in lines(rows):
        if line:
            row = line.split(" ")
            if row[at["srv_name"]] == GATE:
                continue
            servers = found.setdefault(row[at["be_name"]], {})
            servers[row[at["srv_name"]]] = _server(row, at)
    return found


def _server(row: Sequence[str], at: Mapping[str, int]) -> RunningServer:
    admin = int(row[at["srv_admin_state"]])
    return RunningServer(
        id=int(row[at["srv_id"]]),
        address=row[at["srv_addr"]],
        port=int(row[at["srv_port"]]),
        weight=int(row[at["srv_uweight"]]),
        maintenance=bool(admin & _FORCED_MAINTENANCE),
        drained=bool(admin & _FORCED_DRAIN),
        checked=bool(int(row[at["srv_check_state"]]) & _CHECK_ENABLED),
    )


def read_processes(text: str) -> Processes:
    """The answer to the master's `show proc`.

    Raises:
        ProxyError: that is not what a master answers.
    """
    master = _MASTER.search(text)
    if master is None:
        raise ProxyError("HAProxy's master does not say what it runs.", retryable=True)
    current, _, old = text.partition("# old workers")
    worker = _WORKER.search(current)
    return Processes(
        reloads=int(master[1]),
        failed=int(master[2]),
        worker=int(worker[1]) if worker else None,
        leaving=tuple(int(pid) for pid in _WORKER.findall(old)),
    )


def read_status(text: str) -> dict[tuple[str, str], ServerStatus]:
    """The answer to `show stat -1 4 -1` (all servers). Gates are nobody's instances.

    Raises:
        ProxyError: that is not what HAProxy answers, or not all of it.
    """
    table = read_table(text)
    backend, server, sessions, status = (
        table.at[name] for name in ("pxname", "svname", "scur", "status")
    )
    return {
        (row[backend], row[server]): ServerStatus(
            sessions=int(row[sessions]), up=not row[status].startswith(("DOWN", "MAINT"))
        )
        for row in table.rows
        if row[server] != GATE
    }
