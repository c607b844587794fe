"""The name servers to which an environment's dnsmasq forwards: the host's, if a router can
reach them."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

# Where systemd-resolved writes the servers behind its own stub at 127.0.0.53.
RESOLV_FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


def name_servers(resolv_conf: str) -> tuple[str, ...]:
    """The IPv4 servers of a resolv.conf that are not on the loopback, in their order."""
    words = (line.split() for line in resolv_conf.splitlines())
    found = (w[1] for w in words if len(w) > 1 and w[0] == "nameserver")
    return tuple(dict.fromkeys(text for text in found if _is_elsewhere(text)))


def _is_elsewhere(text: str) -> bool:
    try:
        address = IPv4Address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def usable_servers(files: Sequence[Path] = RESOLV_FILES) -> tuple[str, ...]:
    """Servers of the first file that names any which a router can ask. Never more than three,
    as in resolv.conf(5)."""
    for file in files:
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        if servers := tuple(s for s in name_servers(text) if _is_reachable(s)):
            return servers[:3]
    return ()


def _is_reachable(server: str) -> bool:
    """Whether a route leads there, and not to the host itself, which routers may not enter.

    Connecting a datagram socket sends nothing; it looks up the route. Without one, dnsmasq
    would wait for answers that cannot come, and guests with it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((server, 53))
        except OSError:
            return False
        return bool(probe.getsockname()[0] != server)
