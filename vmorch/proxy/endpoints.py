"""Why HAProxy cannot listen where it should. Asks `ss` and `ip`, which look into namespaces too.

It is asked before a reload: one that fails stops every listener for about two seconds, and says
nothing, as a detached master has no terminal. So what is not certain must not be said here: another
program listens there, or nobody has the address. Blocking.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from vmorch.model.names import NAMESPACES
from vmorch.proxy.listening import overlap
from vmorch.proxy.protocol import AddressUnavailable, Endpoint, Purpose

# Where it is set, addresses may be listened on before anybody has them.
_NONLOCAL = Path("/proc/sys/net/ipv4/ip_nonlocal_bind")
_USER = re.compile(r'\("([^"]*)",pid=(\d+)')
_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holder:
    address: str
    port: int
    program: str
    pid: int


def namespace_inodes(endpoints: Iterable[Endpoint]) -> dict[str, int]:
    """The inode numbers of the router namespaces in which these are.

    Raises:
        AddressUnavailable: some namespaces do not exist.
    """
    found: dict[str, int] = {}
    lost: list[Endpoint] = []
    for endpoint in endpoints:
        if endpoint.namespace is not None and endpoint.namespace not in found:
            try:
                found[endpoint.namespace] = (NAMESPACES / endpoint.namespace).stat().st_ino
            except OSError:
                lost.append(endpoint)
    if lost:
        names = ", ".join(sorted({str(endpoint.namespace) for endpoint in lost}))
        raise AddressUnavailable(
            f"Some services cannot be reached from others: there is no network namespace {names}.",
            hint="vmorch makes it again when it next looks at the environment.",
            endpoints=tuple(lost),
        )
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
    settings = [f"'{e.purpose}'" for e in reasons if e.purpose is not Purpose.LISTENER]
    where = f" ({' and '.join(settings)} in the daemon's settings)" if settings else ""
    return AddressUnavailable(
        f"HAProxy cannot listen on {'; '.join(reasons.values())}.",
        hint=f"Stop that program, or choose another port or address{where}.",
        endpoints=tuple(reasons),
    )


def _reason(endpoint: Endpoint, holders: list[_Holder], addresses: set[str]) -> str:
    for item in holders:
        if item.port == endpoint.port and overlap(item.address, endpoint.address):
            who = f"{item.program} (process {item.pid})" if item.pid else "another program"
            return f"{endpoint}, which {who} has"
    # The whole of 127.0.0.0/8 is local though only one address of it is listed.
    everybodys = ip_address(endpoint.address).is_unspecified or endpoint.address.startswith("127.")
    if addresses and not everybodys and endpoint.address not in addresses:
        return f"{endpoint}, an address that nobody has"
    return ""


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
    """Empty where it cannot be said which addresses may be listened on."""
    where = ["-n", namespace] if namespace else []
    if namespace is None and _may_be_nobodys():
        return set()
    links = json.loads(_output(["ip", *where, "-j", "address", "show"]) or "[]")
    return {item["local"] for link in links for item in link.get("addr_info", ())}


def _may_be_nobodys() -> bool:
    try:
        return _NONLOCAL.read_text().strip() == "1"
    except OSError:
        return False


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
