"""What a daemon measures of a service and decides on its instances while something else is done."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from vmorch.client import Client
from vmorch.errors import VmorchError
from vmorch.model.event import EventKind
from vmorch.model.use import ServiceUse

POLL_SECONDS = 0.5
_CHANGE = re.compile(r"from \d+ to (\d+): ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """From `at`, a time since the epoch, there are to be `count`."""

    at: float
    count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One service of a daemon that scales by itself. It may come to be later."""

    client: Client
    environment: str
    service: str

    @contextlib.contextmanager
    def recorded(self) -> Iterator[list[ServiceUse]]:
        """The ticks that there are meanwhile, each once and in order."""
        ticks: list[ServiceUse] = []
        over = threading.Event()
        recorder = threading.Thread(target=self._record, args=(ticks, over))
        recorder.start()
        try:
            yield ticks
        finally:
            over.set()
            recorder.join()

    def _record(self, ticks: list[ServiceUse], over: threading.Event) -> None:
        """Asks more often than there are ticks, so that none is missed."""
        while not over.wait(POLL_SECONDS):
            with contextlib.suppress(VmorchError):
                for row in self.client.measured_services(self.environment):
                    if row.service == self.service and (not ticks or row.now.at > ticks[-1].at):
                        ticks.append(row.now)

    def decisions(self) -> list[Decision]:
        """All that changed the count, oldest first."""
        return [
            Decision(at=event.time, count=int(change[1]), reason=event.message)
            for event in self.client.events(environment=self.environment)
            if event.kind == EventKind.SERVICE_SCALED
            and event.service == self.service
            and (change := _CHANGE.search(event.message))
        ]

    def ready_times(self) -> list[float]:
        """When one of its instances became ready, oldest first."""
        events = self.client.events(environment=self.environment)
        return [
            event.time
            for event in events
            if event.kind == EventKind.INSTANCE_READY and event.service == self.service
        ]
