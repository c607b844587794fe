"""What the daemon asks of the network. `router.py` answers with namespaces, `fake.py` in memory.

Every call has happened when it returns or raises NetworkError; all are safe to repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from vmorch.model.instance import EnvironmentNetwork


class Network(Protocol):
    async def ensure_host(self) -> None:
        """Mend what all environments share on the host, if somebody harmed it; once for any number
        of `ensure` calls after it."""
        ...

    async def ensure(self, network: EnvironmentNetwork, service_addresses: Sequence[str]) -> None:
        """Make bridge, links, router namespace, rules, NAT and dnsmasq what `network` says, with
        exactly these service addresses (inner addresses HAProxy listens on) on the router."""
        ...

    async def set_names(
        self, network: EnvironmentNetwork, records: Mapping[str, Sequence[str]]
    ) -> None:
        """The environment's DNS becomes exactly `records` (name -> inner addresses)."""
        ...

    async def remove(self, index: int) -> None:
        """Take away everything of the environment with this network index. Absent: fine."""
        ...

    async def present(self) -> Sequence[int]:
        """Indices of which anything of ours exists on the host, whole or half made."""
        ...

    async def taken_subnets(self) -> Sequence[str]:
        """Subnets the host has routes for that are not ours: outer ranges must avoid them."""
        ...
