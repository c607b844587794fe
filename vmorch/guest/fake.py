"""`Guests` in memory, for the simulation and for tests, with failures to order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vmorch.errors import GuestError
from vmorch.guest import check
from vmorch.guest.protocol import IdentityBundle
from vmorch.model.guest import GuestReport


@dataclass(slots=True)
class FakeGuests:
    """`seeds` remembers what was written where. A guest answers when it is in `reports`;
    `answers` holds what a command says in a guest (default: code 0, no output), `became` what
    `become` made of a domain: (epoch, keep_service), `woken` the epoch of `wake`.
    `failures` maps an operation ("write_seed", "report", "become", "wake", "run") to errors that
    its next calls raise, in order."""

    seeds: dict[Path, IdentityBundle] = field(default_factory=dict)
    reports: dict[str, GuestReport] = field(default_factory=dict)
    answers: dict[tuple[str, tuple[str, ...]], tuple[int, bytes]] = field(default_factory=dict)
    became: dict[str, tuple[float, bool]] = field(default_factory=dict)
    woken: dict[str, float] = field(default_factory=dict)
    failures: dict[str, list[GuestError]] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)

    async def write_seed(self, path: Path, bundle: IdentityBundle) -> None:
        self._called("write_seed", str(path))
        check.bundle(bundle)
        self.seeds[path] = bundle

    async def report(self, domain: str, timeout_seconds: float) -> GuestReport:
        self._called("report", domain)
        return self._answering(domain)

    async def become(
        self, domain: str, *, epoch: float, keep_service: bool, timeout_seconds: float
    ) -> None:
        self._called("become", domain)
        self._answering(domain)
        self.became[domain] = (epoch, keep_service)

    async def wake(self, domain: str, *, epoch: float, timeout_seconds: float) -> None:
        self._called("wake", domain)
        self._answering(domain)
        self.woken[domain] = epoch

    async def run(
        self, domain: str, argv: Sequence[str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        self._called("run", domain)
        self._answering(domain)
        return self.answers.get((domain, tuple(argv)), (0, b""))

    async def run_as_service(
        self, domain: str, argv: Sequence[str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        self._called("run_as_service", domain)
        self._answering(domain)
        return self.answers.get((domain, tuple(argv)), (0, b""))

    def _called(self, operation: str, subject: str) -> None:
        self.calls.append((operation, subject))
        waiting = self.failures.get(operation)
        if waiting:
            raise waiting.pop(0)

    def _answering(self, domain: str) -> GuestReport:
        if domain not in self.reports:
            raise GuestError(f"{domain}: the guest agent is not connected.", retryable=True)
        return self.reports[domain]
