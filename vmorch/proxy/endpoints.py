"""Why HAProxy cannot listen where it should. Asks `ss` and `ip`, which look into namespaces too.

A reload that fails says nothing (a detached master has no terminal), so the reason has to be
found: another program listens there, or nobody has the address. Blocking.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from vmorch.errors import ProxyError
from vmorch.model.names import NAMESPACES
from vmorch.proxy.protocol import AddressUnavailable, Endpoint

_WILDCARDS = {"0.0.0.0", "::", "*"}
_USER = re.compile(r'\("([^"]*)",pid=(\d+)')
_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holder:
    address: str
    port: int
    program: str
    pid: int


def namespace_inodes(names: Iterable[str]) -> dict[str, int]:
    """The inode numbers of router namespaces.

    Raises:
        ProxyError: one does not exist.
    """
    found = {}
    for name in names:
        try:
            found[name] = (NAMESPACES / name).stat().st_ino
        except OSError as error:
            raise ProxyError(
                f"The network namespace {name}, in which a service should be reachable, "
                f"cannot be opened: {error.strerror}.",
                hint="vmorch makes it again when it next looks at the environment.",
                retryable=True,
            ) from error
    return found


def unavailable(endpoints: Iterable[Endpoint], own: Collection[int]) -> AddressUnavailable | None:
    """What stands in the way of listening on `endpoints`, if anything. `own` are the process
    ids of our HAProxy."""
    reasons: dict[Endpoint, str] = {}
    wanted = list(endpoints)
    for namespace in {endpoint.namespace for endpoint in wanted}:
        holders = [item for item in _listening(namespace) if item.pid not in own]
        addresses = _addresses(namespace)
        for endpoint in wanted:
            if endpoint.namespace == namespace and (
                reason := _reason(endpoint, holders, addresses)
            ):
                reasons[endpoint] = reason
    if not reasons:
        return None
    return AddressUnavailable(
        f"HAProxy cannot listen on {'; '.join(reasons.values())}.",
        hint="Stop that program, or choose another port or address.",
        endpoints=tuple(reasons),
    )


def _reason(endpoint: Endpoint, holders: list[_Holder], addresses: set[str]) -> str:
    for item in holders:
        if item.port == endpoint.port and _overlap(item.address, endpoint.address):
            who = f"{item.program} (process {item.pid})" if item.pid else "another program"
            return f"{endpoint}, which {who} has"
    if endpoint.address not in addresses | _WILDCARDS:
        return f"{endpoint}, an address that nobody has"
    return ""


def _overlap(one: str, other: str) -> bool:
    return one == other or one in _WILDCARDS or other in _WILDCARDS


def _listening(namespace: str | None) -> list[_Holder]:
    where = ["-N", namespace] if namespace else []
    found = []
    for line in _output(["ss", *where, "-H", "-l", "-n", "-t", "-p"]).splitlines():
        columns = line.split()
        address, _, port = columns[3].rpartition(":")
        user = _USER.search(line)
        found.append(
            _Holder(
                address=address.strip("[]").partition("%")[0],
                port=int(port),
                program=user[1] if user else "",
                pid=int(user[2]) if user else 0,
            )
        )
    return found


def _addresses(namespace: str | None) -> set[str]:
    where = ["-n", namespace] if namespace else []
    links = json.loads(_output(["ip", *where, "-j", "address", "show"]) or "[]")
    own = {item["local"] for link in links for item in link.get("addr_info", ())}
    # The whole of 127.0.0.0/8 is local though only one address of it is listed.
    return own | {f"127.0.0.{number}" for number in range(1, 255)}


def _output(command: list[str]) -> str:
    """What a command prints; nothing when it fails, as this is about the reason of a failure
    that is reported anyway."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
