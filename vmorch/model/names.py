"""The one place where names of things on the host are made, and taken apart.

Interface names have at most 15 characters (IFNAMSIZ), socket paths at most 107 bytes
(sockaddr_un): environments and services have long names, so what is so limited is named by
the environment's network index instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vmorch.errors import UsageError

NAMESPACES = Path("/run/netns")
"""Where `ip netns` keeps network namespaces, each under its name."""
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,38}[a-z0-9])?\Z")


def is_name(text: str) -> bool:
    """Whether `text` can name an environment or a service: lower-case letters, digits, `-` and
    `_`, beginning and ending with a letter or digit, at most 40 characters."""
    return _NAME.match(text) is not None


def host_name(service: str, ordinal: int) -> str:
    """The host name of an instance: underscores are no part of a host name (RFC 952)."""
    return f"{service.replace('_', '-')}-{ordinal}"


def instance_name(service: str, ordinal: int) -> str:
    return f"{service}-{ordinal}"


def split_instance_name(text: str) -> tuple[str, int]:
    """`orders-3` as ("orders", 3).

    Raises:
        UsageError: `text` is not the name of an instance.
    """
    service, dash, ordinal = text.rpartition("-")
    if not dash or not ordinal.isdigit() or not is_name(service):
        raise UsageError(
            f"'{text}' is not the name of an instance.",
            hint="Instances are named SERVICE-NUMBER, such as orders-1; see 'vmorch ps'.",
        )
    return service, int(ordinal)


def backend_name(environment: str, service: str, port: int, mode: str, kind: str = "") -> str:
    """The proxy's backend of a service's port, in a mode (`http`, `tcp`); `kind` tells apart those
    of one port and mode. No name of ours has a dot."""
    name = f"{environment}.{service}.{port}.{mode}"
    return f"{name}.{kind}" if kind else name


def backend_owner(name: str) -> tuple[str, str] | None:
    """The environment and the service whose backend has this name; None of one that is nobody's."""
    environment, _, rest = name.partition(".")
    service, dot, _ = rest.partition(".")
    return (environment, service) if dot else None


@dataclass(frozen=True, slots=True)
class Installation:
    """One state directory's identity: 32 hexadecimal digits, made once."""

    id: str

    @property
    def short(self) -> str:
        return self.id[:6]

    def domain(self, environment: str, service: str, ordinal: int) -> str:
        """The libvirt domain, and with it the cgroup, of an instance."""
        return f"{self.short}-{environment}-{service}-{ordinal}"

    def warm_domain(self, key: str) -> str:
        """The guest of which the warm snapshot with that key is made. No instance has a dot."""
        return f"{self.short}-warm.{key[:12]}"

    def warm_tap(self, key: str) -> str:
        return f"{self.short}-w{key[:6]}"

    def bridge(self, index: int) -> str:
        """The layer-2 bridge of the environment with this network index (0 to 255)."""
        return f"{self.short}-br{index}"

    def namespace(self, index: int) -> str:
        """The router namespace, under `NAMESPACES`."""
        return f"{self.short}-r{index}"

    def uplink(self, index: int) -> str:
        """The host's end of the veth pair that leads to the router."""
        return f"{self.short}-up{index}"

    def downlink(self, index: int) -> str:
        """The bridge's end of the veth pair that leads to the router."""
        return f"{self.short}-dn{index}"

    def tap(self, index: int, inner_address: str) -> str:
        """The tap of an instance: its network's index and the last number of its address."""
        return f"{self.short}-t{index}-{inner_address.rpartition('.')[2]}"
