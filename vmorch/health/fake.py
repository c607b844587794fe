"""`Prober` in memory: a test says how each instance is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from vmorch.effects import Clock
from vmorch.health.protocol import Health, Target
from vmorch.model.guest import GuestReport

Key = tuple[str, str, int]
# How an instance is, asked at each look: (healthy, message, report).
Judge = Callable[[Target], tuple[bool | None, str, GuestReport | None]]


@dataclass(slots=True)
class FakeProber:
    """`judge` decides at each look at the results, so a simulation may ask its fake guests; what
    `says` holds wins over it. Without either an instance is healthy at once."""

    clock: Clock
    judge: Judge = lambda target: (True, "healthy", None)
    says: dict[Key, tuple[bool | None, str]] = field(default_factory=dict)
    changed: Callable[[], None] = lambda: None
    targets: dict[Key, Target] = field(default_factory=dict)
    stirred: list[str] = field(default_factory=list)
    _last: dict[Key, Health] = field(default_factory=dict)

    def watch(self, targets: Sequence[Target]) -> None:
        self.targets = {target.key: target for target in targets}
        self._last = {key: last for key, last in self._last.items() if key in self.targets}

    def say(self, key: Key, healthy: bool | None, message: str = "") -> None:
        """From now on this instance is so, and the reconciler is told."""
        self.says[key] = (healthy, message)
        self.changed()

    def results(self) -> Mapping[Key, Health]:
        self._last = {key: self._health(key, target) for key, target in self.targets.items()}
        return dict(self._last)

    def stir(self, address: str) -> None:
        self.stirred.append(address)

    async def close(self) -> None:
        self.targets = {}

    def _health(self, key: Key, target: Target) -> Health:
        healthy, message, report = self.judge(target)
        healthy, message = self.says.get(key, (healthy, message))
        last = self._last.get(key)
        same = last is not None and last.healthy is healthy
        since = last.since if last is not None and same else self.clock.now()
        return Health(healthy=healthy, since=since, message=message, report=report)
