"""Bridge, veth pairs and router namespace of one environment, with `ip`.

    guests' taps ── BR ── DN ═ in0 [router namespace] out0 ═ UP ── host

What is there already stays: guests' taps hang on the bridge, and connections live in the
namespace. A pair of which one end is missing is made anew.
"""

from __future__ import annotations

import fcntl
import json
import re
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmorch.errors import NetworkError
from vmorch.model.addresses import gateway, link_addresses, mac_address, prefix_length
from vmorch.model.instance import EnvironmentNetwork
from vmorch.model.names import NAMESPACES, Installation
from vmorch.network.commands import entering, ip_batch, run, write_kernel
from vmorch.network.rules import INSIDE, OUTSIDE

_IFF_UP = 0x1
_SIOCGIFFLAGS = 0x8913
_BRIDGE_MAC = 0  # host numbers that no guest has
_ROUTER_MAC = 1
_SYSTEM = Path("/proc/sys/net")

# Parameters of a router that are all set to 1, so that one `tee` sets them: `ip netns exec
# sysctl` for each would be as many processes.
_ROUTER_SWITCHES = (
    "ipv4/ip_forward",
    "ipv4/conf/all/rp_filter",
    "ipv6/conf/all/disable_ipv6",
    "ipv6/conf/default/disable_ipv6",
)


@dataclass(frozen=True, slots=True)
class Names:
    """What an environment's things are called on the host."""

    bridge: str
    up: str
    down: str
    namespace: str

    @classmethod
    def of(cls, installation: Installation, index: int) -> Names:
        return cls(
            bridge=installation.bridge(index),
            up=installation.uplink(index),
            down=installation.downlink(index),
            namespace=installation.namespace(index),
        )

    @property
    def links(self) -> tuple[str, str, str]:
        return self.bridge, self.up, self.down


def fingerprint(names: Names) -> tuple[object, ...]:
    """What changes when somebody removes, remakes or shuts down one of an environment's things.
    A few system calls, no process: it is taken in every cycle."""
    return (_namespace_identity(names.namespace), *map(_interface_identity, names.links))


def _namespace_identity(namespace: str) -> tuple[int, int] | None:
    """None: absent, or only the file on which a namespace was to be mounted."""
    try:
        found = (NAMESPACES / namespace).stat()
    except OSError:
        return None
    ours = Path("/proc/self/ns/net").stat()
    return (found.st_dev, found.st_ino) if found.st_dev == ours.st_dev else None


def _interface_identity(name: str) -> tuple[int, bool] | None:
    """(interface index, up), by ioctl: /sys may show another namespace's interfaces."""
    try:
        index = socket.if_nametoindex(name)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            request = struct.pack("16sH14x", name.encode(), 0)
            answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
    except OSError:
        return None
    return index, bool(struct.unpack("16sH14x", answer)[1] & _IFF_UP)


def indices(installation: Installation) -> set[int]:
    """Network indices of which an interface or a namespace exists."""
    pattern = re.compile(rf"{re.escape(installation.short)}-(?:br|up|dn|r)(\d{{1,3}})")
    names = [name for _, name in socket.if_nameindex()]
    if NAMESPACES.is_dir():
        names += [entry.name for entry in NAMESPACES.iterdir()]
    return {int(found[1]) for name in names if (found := pattern.fullmatch(name))}


def ensure_namespace(names: Names, resident: int | None) -> None:
    """Make the router's namespace, or find it again: where only its mount is gone, the process
    `resident` still keeps it alive, and with it HAProxy's listeners."""
    if _namespace_identity(names.namespace) is None:
        (NAMESPACES / names.namespace).unlink(missing_ok=True)
        how = ["attach", names.namespace, str(resident)] if resident else ["add", names.namespace]
        run(["ip", "netns", *how], purpose=f"make the namespace {names.namespace}")
    switches = [_SYSTEM / s for s in _ROUTER_SWITCHES if (_SYSTEM / s).exists()]
    run(
        [*entering(names.namespace), "tee", *map(str, switches)],
        stdin="1",
        purpose=f"set up forwarding in {names.namespace}",
    )


def ensure_links(names: Names, installation_id: str, index: int) -> None:
    """Make what is missing of bridge and pairs, without IPv6 and not yet up."""
    inside = {entry["ifname"] for entry in _inside(names.namespace)}
    bridge_mac = mac_address(installation_id, index, _BRIDGE_MAC)
    router_mac = mac_address(installation_id, index, _ROUTER_MAC)
    lines = []
    if _interface_identity(names.bridge) is None:
        lines.append(f"link add {names.bridge} address {bridge_mac} type bridge")
    lines += _pair(names.up, OUTSIDE, names.namespace, inside, "")
    lines += _pair(names.down, INSIDE, names.namespace, inside, f"address {router_mac}")
    lines.append(f"link set {names.down} master {names.bridge}")
    ip_batch(lines, purpose=f"make the links of {names.namespace}")
    for name in names.links:
        write_kernel(_SYSTEM / "ipv6/conf" / name / "disable_ipv6", "1")
    # The host answers ARP for all its addresses on every interface, unless told not to.
    write_kernel(_SYSTEM / "ipv4/conf" / names.bridge / "arp_ignore", "8")


def _pair(here: str, there: str, namespace: str, inside: Collection[str], more: str) -> list[str]:
    exists = _interface_identity(here) is not None
    if exists and there in inside:
        return []
    remake = [f"link del {here}"] if exists else []
    return [*remake, f"link add {here} type veth peer name {there} {more} netns {namespace}"]


def bring_up(names: Names, network: EnvironmentNetwork, services: Collection[str]) -> None:
    """Give the links their addresses and routes. From here on, packets flow."""
    host, router = link_addresses(network)
    held = {
        f"{a['local']}/{a['prefixlen']}"
        for entry in _inside(names.namespace)
        if entry["ifname"] == INSIDE
        for a in entry["addr_info"]
    }
    ip_batch(
        [
            "link set lo up",
            f"address replace {router}/31 dev {OUTSIDE}",
            *_inner_addresses(network, services, held),
            f"link set {OUTSIDE} up",
            f"link set {INSIDE} up",
            f"route replace default via {host} dev {OUTSIDE}",
        ],
        namespace=names.namespace,
        purpose=f"set the addresses of {names.namespace}",
    )
    ip_batch(
        [
            *(f"link set {name} up" for name in names.links),
            f"address replace {host}/31 dev {names.up}",
            f"route replace {network.outer} via {router} dev {names.up} src {host}",
        ],
        purpose=f"set the host's address and route to {names.namespace}",
    )


def _inner_addresses(
    network: EnvironmentNetwork, services: Collection[str], held: Collection[str]
) -> Iterator[str]:
    """The gateway first, service addresses as /32: the kernel removes the secondary addresses
    of a subnet with its first one."""
    wanted = [f"{gateway(network)}/{prefix_length(network)}", *(f"{a}/32" for a in services)]
    yield from (f"address del {a} dev {INSIDE}" for a in sorted(set(held) - set(wanted)))
    yield from (f"address add {a} dev {INSIDE}" for a in wanted if a not in held)


def _inside(namespace: str) -> list[dict[str, Any]]:
    text = run(
        ["ip", "-n", namespace, "-4", "-j", "address", "show"],
        purpose=f"look at the addresses of {namespace}",
    )
    try:
        return [entry for entry in json.loads(text or "[]") if entry]
    except json.JSONDecodeError as error:
        raise NetworkError(f"'ip -j' gave no JSON for {namespace}: {error}.") from error


def remove(names: Names) -> None:
    """Remove links and namespace. Absent: fine."""
    there = [name for name in names.links if _interface_identity(name) is not None]
    # A pair goes with one end; its other may go in between, when a namespace is torn down.
    ip_batch([f"link del {name}" for name in there], purpose="remove links")
    if (NAMESPACES / names.namespace).exists():
        run(
            ["ip", "netns", "delete", names.namespace],
            purpose=f"remove the namespace {names.namespace}",
        )
