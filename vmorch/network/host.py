"""What all environments of an installation share on the host: a table of rules, forwarding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from vmorch.errors import NetworkError
from vmorch.model.names import Installation
from vmorch.network.commands import ENVIRONMENT, PACKAGES, nft, run, write_kernel
from vmorch.network.rules import host_rules, host_table, without_table
from vmorch.network.upstream import usable_servers

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_LOOPBACK = IPv4Network("127.0.0.0/8")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProblem:
    """Something about the host that stands in the way: what it is, and what to do."""

    message: str
    hint: str


class HostSide:
    """The installation's table and the host's forwarding switch. Its calls block."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._loaded: str | None = None

    @property
    def loaded(self) -> bool:
        """Whether the table is there as far as we know, without a look."""
        return self._loaded is not None

    def ensure(self) -> None:
        """Load the table unless it is there as we loaded it, and turn forwarding on."""
        if self._loaded is None or self._listing() != self._loaded:
            nft(host_rules(self._installation), purpose="load the host's rules")
            self._loaded = self._listing()
        if _FORWARDING.read_text().strip() != "1":
            write_kernel(_FORWARDING, "1")

    def _listing(self) -> str:
        """The table as nft shows it; empty when somebody flushed the rules."""
        try:
            words = ["nft", "list", "table", "inet", host_table(self._installation)]
            return run(words, purpose="read the host's rules")
        except NetworkError:
            return ""

    def remove(self) -> None:
        """Remove the table. Forwarding stays on: others may rely on it by now."""
        nft(without_table(host_table(self._installation)), purpose="remove the host's rules")
        self._loaded = None


def taken_subnets(installation: Installation) -> list[str]:
    """Subnets and addresses of the host's routes but its default one, its loopback and ours."""
    text = run(
        ["ip", "-4", "-j", "route", "show", "table", "all"], purpose="read the host's routes"
    )
    found = {
        IPv4Network(route["dst"])
        for route in json.loads(text or "[]")
        if route["dst"] not in {"default", "0.0.0.0/0"}
        and route.get("type", "unicast") not in {"broadcast", "multicast", "anycast"}
        and not route.get("dev", "").startswith(f"{installation.short}-")
    }
    return [str(n) for n in sorted(found) if not n.subnet_of(_LOOPBACK)]


def problems(installation: Installation) -> list[HostProblem]:
    """What on this host hinders environments' networks. Changes nothing."""
    missing = [p for p in PACKAGES if shutil.which(p, path=ENVIRONMENT["PATH"]) is None]
    if missing:
        packages = " ".join(PACKAGES[p] for p in missing)
        return [
            HostProblem(
                message=f"Programs are not installed: {', '.join(missing)}.",
                hint=f"Install them: apt-get install {packages}",
            )
        ]
    return [*_resolver_problems(), *_firewall_problems(installation)]


def _resolver_problems() -> Iterator[HostProblem]:
    if not usable_servers():
        yield HostProblem(
            message="Guests resolve only names of their environment: the host's resolv.conf "
            "names no IPv4 server that is reachable and not the host itself.",
            hint="Name a server in /etc/resolv.conf that is not on this host.",
        )


def _firewall_problems(installation: Installation) -> Iterator[HostProblem]:
    """Other firewalls on the same hooks: an accept of ours does not undo their drop."""
    chains = _closed_chains(run(["nft", "-j", "list", "chains"], purpose="read the host's rules"))
    up, bridge = f"{installation.short}-up+", f"{installation.short}-br+"
    if forward := [name for hook, name in chains if hook == "forward"]:
        chain = "DOCKER-USER" if "DOCKER-USER" in _chain_names() else "FORWARD"
        bridged = _BRIDGED.exists() and _BRIDGED.read_text().strip() == "1"
        commands = [
            f"iptables -I {chain} -i {up} -j ACCEPT",
            f"iptables -I {chain} -o {up} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            *([f"iptables -I {chain} -i {bridge} -o {bridge} -j ACCEPT"] if bridged else []),
        ]
        between = " and to each other" if bridged else ""
        yield HostProblem(
            message="A firewall of this host drops forwarded packets "
            f"({', '.join(forward)}): guests may have no way out{between}.",
            hint=f"Let ours pass: {'; '.join(commands)}",
        )
    if incoming := [name for hook, name in chains if hook == "input"]:
        yield HostProblem(
            message=f"A firewall of this host drops incoming packets ({', '.join(incoming)}): "
            "replies of guests may not arrive.",
            hint="Nothing to do if it accepts established connections, as ufw and firewalld do.",
        )


def _closed_chains(listing: str) -> list[tuple[str, str]]:
    """(hook, "family table chain") of base chains that drop what they do not know."""
    entries: Sequence[dict[str, dict[str, str]]] = json.loads(listing or "{}").get("nftables", [])
    chains = [entry["chain"] for entry in entries if "chain" in entry]
    return [
        (c["hook"], f"{c['family']} {c['table']} {c['name']}")
        for c in chains
        if c.get("policy") == "drop" and c["family"] in {"ip", "inet"}
    ]


def _chain_names() -> set[str]:
    listing = json.loads(run(["nft", "-j", "list", "chains"], purpose="read the host's rules"))
    return {e["chain"]["name"] for e in listing.get("nftables", []) if "chain" in e}
