"""What the reconciler asks of the prober. `prober.py` answers by probing, `fake.py` in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vmorch.model.guest import GuestReport
from vmorch.model.spec import HealthCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An instance to probe. `key` is (environment, instance name, boot): a restarted guest is a
    new target and begins with no history. `address` is the outer one. `time_scale` multiplies
    time-outs and the start period, as a guest without KVM is slower."""

    key: tuple[str, str, int]
    domain: str
    address: str
    port: int | None
    check: HealthCheck
    has_agent: bool
    wants_cloud_init: bool
    time_scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`healthy` None: no verdict yet. `message` says why, for people (last answer or error).
    `report` is the guest's own word, when it has an agent and has said one. `failures` are the
    failed checks in a row that count; one more of them alone is no news."""

    healthy: bool | None
    since: float
    message: str
    report: GuestReport | None = None
    failures: int = field(default=0, compare=False)


class Prober(Protocol):
    def watch(self, targets: Sequence[Target]) -> None:
        """Probe exactly these from now on; unknown ones begin at once, others end."""
        ...

    def results(self) -> Mapping[tuple[str, str, int], Health]: ...

    def stir(self, address: str) -> None:
        """Send a guest one datagram that any living kernel answers in some way; returns at
        once."""
        ...

    async def close(self) -> None: ...
