"""What must hold as it happens: of every plan, and of every call that the daemon makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmorch.errors import VmorchError
from vmorch.hypervisor.fake import FakeHypervisor
from vmorch.model.instance import State
from vmorch.model.names import Installation, backend_owner
from vmorch.planner import plan as planning
from vmorch.planner.actions import Plan
from vmorch.planner.snapshot import Snapshot
from vmorch.proxy.protocol import ProxyConfig
from vmorch.store.sqlite import SqliteStore

BUSY_CALLS = 50_000
"""More than a daemon makes in the longest time between two checks, when it makes sense."""


class Violation(AssertionError):
    """An invariant does not hold. `kind` is the same whenever it is that one; the text says which
    instance it is about, and how."""

    def __init__(self, kind: str, about: str = "") -> None:
        super().__init__(f"{kind}: {about}" if about else kind)
        self.kind = kind


class Watch:
    """`look` tells it where. `found` is what did not hold, in the order in which it happened:
    raised in the midst of the daemon, it could be taken for a failure that a daemon bears."""

    def __init__(self, installation: Installation) -> None:
        self.found: list[Violation] = []
        self._calls = 0
        self._installation = installation

    def look(self, store: SqliteStore, hypervisor: FakeHypervisor) -> None:
        """At these, as they are and not as the daemon is told."""
        self._store = store
        self._hypervisor = hypervisor

    def raise_first(self) -> None:
        """Raises Violation."""
        self._calls = 0
        if self.found:
            raise self.found[0]

    # Plans

    def plan(self, snapshot: Snapshot, now: float) -> Plan:
        """The planner's, once it has been seen to hold what it promises."""
        try:
            made, again = planning.plan(snapshot, now), planning.plan(snapshot, now)
        except VmorchError as error:
            self._note("the plan breaks its own invariant", error.message)
            raise
        if made != again:
            self._note("the same snapshot gives two plans")
        return made

    # Calls

    async def called(self, port: str, call: str, arguments: tuple[Any, ...]) -> None:
        """Before each call of the daemon. Raises Violation: it would never end."""
        self._calls += 1
        if self._calls > BUSY_CALLS:
            raise Violation("the daemon is busy without end", f"{port}.{call}")
        if port == "hypervisor" and arguments and not isinstance(arguments[0], Path):
            self._check_guest(call, arguments[0])
        elif (port, call) == ("proxy", "apply"):
            await self._check_admitted(arguments[0])
        elif (port, call) == ("store", "add_event") and not arguments[1]:
            self._note("an event has no reason", str(arguments[0]))

    def _check_guest(self, call: str, guest: object) -> None:
        name = guest if isinstance(guest, str) else str(getattr(guest, "name", ""))
        foreign = any(name == guest.name for guest in self._hypervisor.foreign)
        if foreign or not name.startswith(self._installation.short):
            self._note("a foreign guest is touched", f"{call} {name}")

    async def _check_admitted(self, config: ProxyConfig) -> None:
        admitted = {
            (owner[0], server.name)
            for backend in config.backends
            if (owner := backend_owner(backend.name)) is not None
            for server in backend.servers
            if server.admitted
        }
        for instance in await self._store.instances():
            if (instance.environment, instance.name) not in admitted:
                continue
            if instance.state is not State.READY or not instance.capped:
                self._note("the proxy admits who is not ready", instance.name)
            guest = self._hypervisor.domains.get(self._installation.domain(*instance.key))
            if guest is not None and (guest.cpus != guest.config.cpus or not guest.linked):
                self._note("the proxy admits an uncapped guest", instance.name)

    def _note(self, kind: str, about: str = "") -> None:
        self.found.append(Violation(kind, about))
