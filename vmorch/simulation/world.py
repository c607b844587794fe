"""A world in memory: the fakes and the real store, and a daemon that lives and dies in it.

What outlives a daemon (guests, proxy, networks, the store) belongs to the world; what a daemon
only knows while it runs is made anew with each `boot`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from vmorch.config import Settings
from vmorch.guest.fake import FakeGuests
from vmorch.health.fake import FakeProber
from vmorch.health.protocol import Target
from vmorch.host.fake import FakeHost
from vmorch.hypervisor.fake import FakeHypervisor
from vmorch.images.fake import FakeImages
from vmorch.model.guest import Acceleration, GuestReport, GuestState
from vmorch.model.image import RunConfig
from vmorch.model.names import Installation
from vmorch.network.fake import FakeNetwork
from vmorch.proxy.fake import FakeProxy
from vmorch.reconciler.loop import Reconciler
from vmorch.reconciler.parts import Parts
from vmorch.simulation.hearing import Hearing
from vmorch.simulation.troubles import Troubled, Troubles
from vmorch.simulation.virtual import SeededEntropy, VirtualClock, VirtualProcesses
from vmorch.simulation.watch import Watch
from vmorch.snapshots.shelf import SnapshotShelf
from vmorch.store.sqlite import SqliteStore
from vmorch.volumes.fake import FakeDisks

INSTALLATION = Installation("5e" * 16)
HEALTHY_AFTER_SECONDS = 6.0
JOB = "job"
"""A service of that name has done its work as soon as its guest has booted."""
DONE = GuestReport(instance_id="", service="exited", exit_code=0, cloud_init="off")


@dataclass(slots=True)
class CrashPoints:
    """See `vmorch.effects.Faults`. The daemon stops dead at the armed point: nothing after it
    happens. `skip` lets it be passed so many times before. `seen` counts every point that was
    passed."""

    armed: str | None = None
    skip: int = 0
    crashed: asyncio.Event = field(default_factory=asyncio.Event)
    seen: dict[str, int] = field(default_factory=dict)

    async def at(self, point: str) -> None:
        self.seen[point] = self.seen.get(point, 0) + 1
        if self.armed not in {point, "*"}:
            return
        self.skip -= 1
        if self.skip < 0:
            self.skip, self.armed = 0, None
            self.crashed.set()
            await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class FakeHostKey:
    private: str
    public: str


class FakeKeys:
    client_public = "ssh-ed25519 client"

    def host_key(self, instance_uuid: str) -> FakeHostKey:
        return FakeHostKey(f"private {instance_uuid}", f"public {instance_uuid}")


async def in_place(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Virtual time knows no threads."""
    return work(*arguments, **named)


class _Reports(dict[str, GuestReport]):
    """Every guest that has booted says that its service runs."""

    def __init__(self, hypervisor: FakeHypervisor, clock: VirtualClock) -> None:
        super().__init__()
        self._hypervisor = hypervisor
        self._clock = clock

    def __contains__(self, domain: object) -> bool:
        guest = self._hypervisor.domains.get(str(domain))
        return guest is not None and self._clock.now() >= guest.boots_at

    def __getitem__(self, domain: str) -> GuestReport:
        return GuestReport(instance_id="", service="active", cloud_init="off")


class World:
    """`boot` starts the daemon, `crash` ends it as kill -9 would. `warm`: with snapshots.

    Guests in `sick` answer their check with an error, and so do those of an image in `bad_images`,
    once they have been well for so many seconds. `booted_at` is when the daemon began."""

    def __init__(self, seed: int, directory: Path, *, warm: bool = False) -> None:
        self.clock = VirtualClock()
        self.entropy = SeededEntropy(seed)
        self.faults = CrashPoints()
        self.hypervisor = FakeHypervisor(self.clock, call_seconds=0.01, faults=self.faults)
        self.host = FakeHost()
        self.network = FakeNetwork(faults=self.faults)
        self.images = FakeImages(self.clock)
        self.disks = FakeDisks()
        self.guests = FakeGuests(reports=_Reports(self.hypervisor, self.clock))
        self.proxy = FakeProxy(self.faults)
        self.troubles = Troubles(self.clock, self.faults.crashed.set)
        self.hearing = Hearing(self.clock)
        self.watch = Watch(INSTALLATION)
        self.booted_at = 0.0
        settings = Settings(state_dir=directory, warm_snapshots="auto" if warm else "off")
        self.store = SqliteStore(
            ":memory:",
            INSTALLATION,
            outer_pool=settings.outer_pool,
            inner_subnet=settings.inner_subnet,
            taken_subnets=self.network.taken_subnets,
        )
        self.prober = FakeProber(self.clock, judge=self._health)
        self.sick: set[str] = set()
        self.bad_images: dict[str, float] = {}
        self.processes = VirtualProcesses()
        self.watch.look(self.store, self.hypervisor)
        self.snapshots = SnapshotShelf(settings.snapshots_dir, self.clock, in_place)
        self.parts = Parts(
            settings=settings,
            host=self.host,
            store=self._port("store", self.store),
            hypervisor=self._port(
                "hypervisor", self.hypervisor, hints=lambda: self.hearing.of(self.hypervisor)
            ),
            network=self._port("network", self.network),
            images=self._port("images", self.images),
            disks=self._port("disks", self.disks),
            snapshots=self._port("snapshots", self.snapshots),
            guests=self._port("guests", self.guests),
            proxy=self._port("proxy", self.proxy),
            prober=self.prober,
            keys=FakeKeys(),
            clock=self.clock,
            entropy=self.entropy,
            faults=self.faults,
            processes=self.processes,
        )
        self.reconciler: Reconciler | None = None
        self._running: asyncio.Task[None] | None = None

    def _port(self, name: str, port: object, **instead: Any) -> Any:
        return cast("Any", Troubled(name, port, self.troubles, self.watch.called, **instead))

    def image(self, name: str) -> str:
        """The digest of a made-up image that runs a server on port 80."""
        run = RunConfig(command=("server",), exposed_ports=(80,))
        return self.images.add(name, run).digest

    def boot(self) -> None:
        self.reconciler = Reconciler(
            self.parts,
            boots_at_once=2,
            time_scale=Acceleration.TCG.time_scale,
            planner=self.watch.plan,
        )
        self.booted_at = self.clock.now()
        self.prober.changed = self.reconciler.wake
        self._running = asyncio.create_task(self.reconciler.run(), name="daemon")

    async def crash(self) -> None:
        """Kill the daemon; an error that ended it by itself comes out here."""
        assert self._running is not None
        if self._running.done():
            self._running.result()
        self._running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._running
        self.faults.armed, self.faults.skip = None, 0
        self.troubles.crash_in = None
        self.faults.crashed.clear()
        self.prober.watch([])

    async def end(self) -> None:
        """Of the daemon, however it stands."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        self.faults.armed, self.faults.skip = None, 0
        self.troubles.clear()
        self.hearing.clear()
        self.sick.clear()

    def calm_seconds(self) -> float:
        """For how long nothing has gone wrong with the daemon and what it hears."""
        pending = self.troubles.pending or self.hearing.pending or self.faults.armed is not None
        last = max(self.booted_at, self.troubles.last_at, self.hearing.last_at)
        return 0.0 if pending else self.clock.now() - last

    async def live(self, seconds: float) -> None:
        """Let time pass; a daemon that reaches its crash point is started again a bit later."""
        assert self._running is not None
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            crash = asyncio.ensure_future(self.faults.crashed.wait())
            await asyncio.wait(
                {crash, self._running},
                timeout=end - self.clock.now(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if crash.done() or self._running.done():
                await self.crash()
                await self.clock.sleep(1.0)
                self.boot()
            crash.cancel()

    def _health(self, target: Target) -> tuple[bool | None, str, GuestReport | None]:
        guest = self.hypervisor.domains.get(target.domain)
        if guest is None or guest.state is not GuestState.RUNNING:
            return False, "no answer", None
        if self.clock.now() < guest.boots_at + HEALTHY_AFTER_SECONDS:
            return None, "booting", None
        if guest.hung:
            return False, "no answer within 5 s", None
        well_until = self.bad_images.get(guest.config.identity.image, float("inf"))
        well_for = self.clock.now() - guest.boots_at - HEALTHY_AFTER_SECONDS
        if target.domain in self.sick or well_for >= well_until:
            return False, "HTTP 500", None
        if guest.config.identity.service == JOB:
            return False, "the service has ended with exit code 0", DONE
        return True, "HTTP 200 OK", None
