"""The daemon stops dead at each fault point of `up`, `scale` and `down`; the next one converges.

The points are those that an undisturbed run passes: one that is added is tested at once. The
orders are given by their moment, so a run with a crash is the same run up to that crash.
"""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from vmorch.model.instance import State
from vmorch.model.spec import EnvironmentSpec, ServiceSpec
from vmorch.simulation.invariants import check_always, come_to_rest
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import World

PEACE_SECONDS = 90.0
OCCURRENCES = 1
"""Of each point: more of them are the business of the random lives."""
EXPECTED = {
    "create:recorded",
    "note:recorded",
    "start:disk",
    "start:seed",
    "start:guest",
    "cap:set",
    "shutdown:recorded",
    "destroy:done",
    "remove:files",
    "remove:recorded",
    "remove-environment:network",
    "remove-environment:files",
    "hypervisor:paused",
    "network:links",
    "network:links-removed",
    "proxy.apply",
    "proxy.applied",
}
"""What such a run must at least pass: without it the test would shrink unnoticed."""


def service(name: str, image: str, replicas: int, variables: dict[str, str]) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        image=image,
        replicas=replicas,
        cpus=0.5,
        expose=(80,),
        environment=variables,
        stop_grace_period_seconds=2.0,
    )


class Story:
    """One environment from `up` to `down`; a second one beside it, which nothing may touch."""

    def __init__(self, directory: Path) -> None:
        self.world = World(1, directory)
        self.image = self.world.image("web")

    async def up(self, *, revision: int = 1, name: str = "shop") -> None:
        services = {
            each: service(each, self.image, 2, {"REVISION": str(revision)})
            for each in ("web", "orders")
        }
        spec = EnvironmentSpec(name=name, services=services)
        await self.world.store.apply(spec, now=self.world.clock.now())
        self._wake()

    async def scale(self, count: int) -> None:
        await self.world.store.scale("shop", {"web": count}, now=self.world.clock.now())
        self._wake()

    async def down(self) -> None:
        await self.world.store.remove("shop", volumes=False, now=self.world.clock.now())
        self._wake()

    def _wake(self) -> None:
        assert self.world.reconciler is not None
        self.world.reconciler.wake()

    async def settle(self) -> None:
        await come_to_rest(self.world, PEACE_SECONDS)

    async def tell(self) -> None:
        """A guest that refuses to shut down is in it: its end is forced."""
        world = self.world
        await self.up(name="beside")
        await self.settle()
        beside = await self.beside()
        for order in (self.up(), self.scale(3), self.scale(1), self.up(revision=2), self.down()):
            await order
            for name in sorted(world.hypervisor.domains)[-1:]:
                world.hypervisor.domains[name].hung = "shop" in name
            await self.settle()
            assert await self.beside() == beside
        assert [record.name for record in await world.store.environments()] == ["beside"]
        assert {i.environment for i in await world.store.instances()} == {"beside"}

    async def beside(self) -> Sequence[tuple[str, int, float | None, State]]:
        return [
            (i.uuid, i.boot, i.started_at, i.state)
            for i in await self.world.store.instances("beside")
        ]


async def lived(directory: Path, point: str | None, occurrence: int) -> dict[str, int]:
    story = Story(directory)
    story.world.faults.armed, story.world.faults.skip = point, occurrence
    story.world.boot()
    try:
        await story.tell()
        await check_always(story.world)
        assert story.world.faults.armed is None, "the point was never reached"
        return dict(story.world.faults.seen)
    finally:
        await story.world.crash()


@functools.cache
def points() -> dict[str, int]:
    """How often an undisturbed run passes each point."""
    with tempfile.TemporaryDirectory() as directory:
        return run_virtually(lived(Path(directory), None, 0))


@pytest.mark.parametrize("point", sorted(points()))
def test_a_daemon_killed_there_leaves_nothing_half_done(point: str, tmp_path: Path) -> None:
    count = points()[point]
    for occurrence in range(0, count, math.ceil(count / OCCURRENCES)):
        run_virtually(lived(tmp_path / str(occurrence), point, occurrence))


def test_the_run_passes_the_points_that_matter() -> None:
    assert points().keys() >= EXPECTED
