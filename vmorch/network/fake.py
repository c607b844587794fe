"""`Network` in memory, for the simulation and for tests, with failures to order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vmorch.effects import Faults, NoFaults
from vmorch.errors import NetworkError
from vmorch.model.instance import EnvironmentNetwork


@dataclass(slots=True)
class FakeNetwork:
    """`ensured` maps the index of each network that stands to it and its service addresses,
    `names` to its DNS. `taken` is what the host has routes for.

    `failures` maps an operation ("ensure_host", "ensure", "set_names", "remove", "present",
    "taken_subnets") to errors that its next calls raise, in order, before they do anything; a
    failing "ensure" leaves its index in `half_made`, as an interrupted real one would. `faults`:
    see `vmorch.effects.Faults`; a change and a removal have a point in their middle.
    """

    ensured: dict[int, tuple[EnvironmentNetwork, tuple[str, ...]]] = field(default_factory=dict)
    names: dict[int, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    half_made: set[int] = field(default_factory=set)
    taken: list[str] = field(default_factory=list)
    failures: dict[str, list[NetworkError]] = field(default_factory=dict)
    calls: list[tuple[str, int | None]] = field(default_factory=list)
    faults: Faults = field(default_factory=NoFaults)

    async def ensure_host(self) -> None:
        self._called("ensure_host", None)

    async def ensure(self, network: EnvironmentNetwork, service_addresses: Sequence[str]) -> None:
        self.half_made.add(network.index)
        self._called("ensure", network.index)
        if (network, tuple(service_addresses)) != self.ensured.get(network.index):
            await self.faults.at("network:links")
        self.half_made.discard(network.index)
        self.ensured[network.index] = network, tuple(service_addresses)

    async def set_names(
        self, network: EnvironmentNetwork, records: Mapping[str, Sequence[str]]
    ) -> None:
        self._called("set_names", network.index)
        self.names[network.index] = {name: tuple(a) for name, a in records.items()}

    async def remove(self, index: int) -> None:
        self._called("remove", index)
        self.half_made.add(index)
        self.ensured.pop(index, None)
        await self.faults.at("network:links-removed")
        self.names.pop(index, None)
        self.half_made.discard(index)

    async def present(self) -> Sequence[int]:
        self._called("present", None)
        return sorted(self.ensured.keys() | self.names.keys() | self.half_made)

    async def taken_subnets(self) -> Sequence[str]:
        self._called("taken_subnets", None)
        return list(self.taken)

    def lose(self, index: int) -> None:
        """Somebody removed namespace and bridge; the names' files are still there."""
        self.ensured.pop(index, None)

    def _called(self, operation: str, index: int | None) -> None:
        self.calls.append((operation, index))
        waiting = self.failures.get(operation)
        if waiting:
            raise waiting.pop(0)
