"""The real `Prober`: a task per target."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence

from vmorch.effects import Clock
from vmorch.health.probes import Connect, Insides
from vmorch.health.protocol import Health, Target
from vmorch.health.watch import Watch

Key = tuple[str, str, int]


class HealthProber:
    """Implements `Prober`. `changed` is called whenever a result has changed; it may be set after
    construction, as whom it wakes is often made later."""

    def __init__(
        self,
        clock: Clock,
        insides: Insides,
        *,
        connect: Connect = asyncio.open_connection,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.changed = changed
        self._clock = clock
        self._insides = insides
        self._connect = connect
        self._watches: dict[Key, tuple[Watch, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def watch(self, targets: Sequence[Target]) -> None:
        """See `Prober.watch`. The same instance with another check is asked anew and keeps its
        verdict until then."""
        wanted = {target.key: target for target in targets}
        for key in self._watches.keys() - wanted.keys():
            self._end(key)
        for key, target in wanted.items():
            if key not in self._watches:
                self._begin(target, None)
            elif self._watches[key][0].target != target:
                self._begin(target, self._end(key))

    def results(self) -> Mapping[Key, Health]:
        return {key: watch.health for key, (watch, _) in self._watches.items()}

    def stir(self, address: str) -> None:
        """See `Prober.stir`. The port is that of "discard": closed, its kernel says so; and even
        a firewall that drops it has to answer for the guest's address first."""
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender,
        ):
            sender.sendto(b"", (address, 9))

    async def close(self) -> None:
        for key in list(self._watches):
            self._end(key)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _begin(self, target: Target, former: Watch | None) -> None:
        watch = Watch(
            target,
            clock=self._clock,
            insides=self._insides,
            connect=self._connect,
            changed=lambda: self.changed(),
        )
        if former is not None:
            watch.inherit(former)
        name = f"health {'/'.join(map(str, target.key))}"
        self._watches[target.key] = (watch, asyncio.create_task(watch.run(), name=name))

    def _end(self, key: Key) -> Watch:
        watch, task = self._watches.pop(key)
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return watch
