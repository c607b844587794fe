"""nftables rules as text. Pure: `host.py` and `router.py` load them, each as one transaction.

A guest reaches of the host the router's DNS and service addresses, of other guests those on its
own bridge, and the outside unless the environment is internal. Two walls stand behind each
other: the router's rules know the environment, the host's know only whose interfaces they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Network

from vmorch.model.addresses import gateway, link_addresses
from vmorch.model.instance import EnvironmentNetwork
from vmorch.model.names import Installation

INSIDE = "in0"
OUTSIDE = "out0"
ROUTER_TABLE = "vmorch"

# Link-local (cloud metadata), multicast, reserved and broadcast: nothing of a guest's business
# lies there, and the host may answer to some of them.
NEVER_OUTSIDE = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")

_REFUSE = (
    "meta l4proto tcp reject with tcp reset",
    "reject with icmpx type admin-prohibited",
)


def host_table(installation: Installation) -> str:
    return f"vmorch_{installation.short}"


def without_table(name: str) -> str:
    """Removes a table, whether it is there or not."""
    return f"table inet {name} {{\n}}\ndelete table inet {name}\n"


def host_rules(installation: Installation) -> str:
    """The host's wall: nothing from a router enters the host but replies, nothing walks from
    one router into another, or from elsewhere into a router.

    Frames that a guest sends to the bridge's own MAC address would reach the host's stack
    although the bridge has no address (weak host model): they are dropped. Where br_netfilter
    is on, frames that only cross the bridge pass here too: they are let through, untracked, as
    two environments may use equal addresses.
    """
    up, bridge = f'"{installation.short}-up*"', f'"{installation.short}-br*"'
    return _table(
        host_table(installation),
        _chain("untracked", "filter hook prerouting priority raw", [f"iifname {bridge} notrack"]),
        _chain(
            "incoming",
            "filter hook input priority filter - 10",
            [
                f"iifname {bridge} drop",
                f"iifname != {up} accept",
                "ct state established,related accept",
                *_REFUSE,
            ],
        ),
        _chain(
            "crossing",
            "filter hook forward priority filter - 10",
            [
                f"iifname {bridge} oifname {bridge} accept",
                f"iifname {bridge} drop",
                f"oifname {bridge} drop",
                f"oifname != {up} accept",
                "ct state established,related accept",
                *_REFUSE,
            ],
        ),
        _chain(
            "leaving",
            "nat hook postrouting priority srcnat",
            [f"iifname {up} oifname != {up} masquerade"],
        ),
    )


def router_rules(
    network: EnvironmentNetwork, service_addresses: Collection[str], outer_pool: str
) -> str:
    """All of a router namespace's rules."""
    return _table(
        ROUTER_TABLE,
        _address_set("services", service_addresses),
        _chain("incoming", "filter hook input priority filter; policy drop", _incoming(network)),
        _chain("crossing", "filter hook forward priority filter; policy drop", _crossing(network)),
        _chain("way_out", "", _way_out(network, outer_pool)),
        _chain("arriving", "nat hook prerouting priority dstnat", _arriving(network)),
        _chain("leaving", "nat hook postrouting priority srcnat", _leaving(network)),
    )


def _incoming(network: EnvironmentNetwork) -> list[str]:
    """To the router itself. A closed port of a service address answers with a reset, so that a
    client learns at once that nothing listens there."""
    return [
        "ct state established,related accept",
        "ct state invalid drop",
        'iifname "lo" accept',
        f'iifname "{INSIDE}" ip saddr != {network.inner} drop',
        f'iifname "{INSIDE}" icmp type echo-request accept',
        f'iifname "{INSIDE}" ip daddr {gateway(network)} meta l4proto {{ tcp, udp }} '
        "th dport 53 accept",
        f'iifname "{INSIDE}" ip daddr @services meta l4proto tcp accept',
        f'iifname "{INSIDE}" meta nfproto ipv6 drop',
        *_REFUSE,
    ]


def _crossing(network: EnvironmentNetwork) -> list[str]:
    """Through the router. From outside comes only the host itself, to outer addresses."""
    host, _ = link_addresses(network)
    return [
        "ct state established,related accept",
        "ct state invalid drop",
        f'iifname "{OUTSIDE}" oifname "{INSIDE}" ip saddr {host} ct status dnat accept',
        f'iifname "{INSIDE}" oifname "{OUTSIDE}" ip saddr {network.inner} jump way_out',
    ]


def _way_out(network: EnvironmentNetwork, outer_pool: str) -> list[str]:
    if network.internal:
        return list(_REFUSE)
    closed = f"ip daddr {{ {', '.join((outer_pool, *NEVER_OUTSIDE))} }}"
    return [*(f"{closed} {refuse}" for refuse in _REFUSE), "accept"]


def _arriving(network: EnvironmentNetwork) -> list[str]:
    mapping = f"{{ {network.outer} : {network.inner} }}"
    return [f'iifname "{OUTSIDE}" dnat ip prefix to ip daddr map {mapping}']


def _leaving(network: EnvironmentNetwork) -> list[str]:
    host, router = link_addresses(network)
    return [
        f'oifname "{INSIDE}" ip saddr {host} snat ip to {gateway(network)}',
        f'oifname "{OUTSIDE}" ip saddr {network.inner} snat ip to {router}',
    ]


def step_rules(*, device: str, name_server: str, closed: Sequence[str]) -> str:
    """The rules of a build step's namespace: DNS and the outside, nothing of the host's.

    `closed` are addresses and subnets of the host and its environments. The helper behind
    `device` opens the host's own sockets: what the host may reach, a step could.
    """
    networks = sorted({*map(IPv4Network, closed), *map(IPv4Network, NEVER_OUTSIDE)})
    return _table(
        ROUTER_TABLE,
        _chain(
            "going_out",
            "filter hook output priority filter; policy drop",
            [
                'oifname "lo" accept',
                f'oifname "{device}" ip daddr {name_server} meta l4proto {{ tcp, udp }} '
                "th dport 53 accept",
                f"ip daddr {{ {', '.join(map(str, _merged(networks)))} }} reject",
                f'oifname "{device}" meta nfproto ipv4 accept',
            ],
        ),
    )


def _merged(networks: Sequence[IPv4Network]) -> list[IPv4Network]:
    """nft refuses a set whose intervals overlap."""
    apart: list[IPv4Network] = []
    for network in networks:
        if not any(network.subnet_of(earlier) for earlier in apart):
            apart.append(network)
    return apart


def _table(name: str, *parts: str) -> str:
    return without_table(name) + f"table inet {name} {{\n" + "".join(parts) + "}\n"


def _chain(name: str, kind: str, rules: Sequence[str]) -> str:
    base = [f"type {kind};"] if kind else []
    return "\n".join([f"  chain {name} {{", *(f"    {r}" for r in (*base, *rules)), "  }", ""])


def _address_set(name: str, addresses: Collection[str]) -> str:
    ordered = ", ".join(map(str, sorted(map(IPv4Address, addresses))))
    elements = f" elements = {{ {ordered} }}" if ordered else ""
    return f"  set {name} {{ type ipv4_addr;{elements} }}\n"
