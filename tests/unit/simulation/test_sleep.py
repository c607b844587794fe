"""Sleep and wake in the whole daemon, dead at each point on the way: who slept goes on where it was
or boots from its disk, and never goes on from one file twice (the fake hypervisor sees to that)."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from vmorch.errors import GuestError
from vmorch.hypervisor.fake import FakeGuest
from vmorch.model.event import EventKind
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.spec import EnvironmentSpec, ServiceSpec, StartMode, VolumeMount, VolumeSpec
from vmorch.reconciler.booting import RAM, SPENT_RAM
from vmorch.simulation.invariants import check_always, check_goals, come_to_rest
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import INSTALLATION, World

PEACE_SECONDS = 120.0
CALM_SECONDS = 60.0
DOMAIN = INSTALLATION.domain("shop", "web", 1)


class Story:
    """One service with a volume, up and ready."""

    def __init__(self, directory: Path, *, volumes: bool = True) -> None:
        self.world = World(1, directory)
        self._image = self.world.image("web")
        self._volumes = volumes

    async def up(self, **changes: object) -> None:
        mounts = (VolumeMount(source="data", target="/srv"),) if self._volumes else ()
        values = {
            "name": "web",
            "image": self._image,
            "cpus": 0.5,
            "expose": (80,),
            "volumes": mounts,
            "stop_grace_period_seconds": 2.0,
        }
        spec = EnvironmentSpec(
            name="shop",
            services={"web": ServiceSpec(**values | changes)},  # type: ignore[arg-type]
            volumes={"data": VolumeSpec(size_bytes=2**26)} if self._volumes else {},
        )
        await self.world.store.apply(spec, now=self.world.clock.now())
        await self.rest()

    async def rest(self) -> None:
        self.wake_daemon()
        await come_to_rest(self.world, PEACE_SECONDS)

    def wake_daemon(self) -> None:
        assert self.world.reconciler is not None
        self.world.reconciler.wake()

    async def want(self, goal: Goal, *, rest: bool = True) -> Instance:
        await self.world.store.set_goal("shop", goal)
        self.wake_daemon()
        if goal is Goal.RUN:
            await self.rest()
        else:
            await self.calm()
        return await self.instance()

    async def calm(self) -> None:
        await self.world.live(CALM_SECONDS)
        await check_goals(self.world)

    async def instance(self) -> Instance:
        (instance,) = await self.world.store.instances("shop")
        return instance

    @property
    def guest(self) -> FakeGuest:
        return self.world.hypervisor.domains[DOMAIN]

    @property
    def files(self) -> set[str]:
        directory = self.world.parts.settings.instance_dir("shop", "web-1")
        return {p.name for p in directory.iterdir()} & {RAM, SPENT_RAM}

    @property
    def ram(self) -> Path:
        return self.world.parts.settings.instance_dir("shop", "web-1") / RAM

    async def kinds(self) -> list[str]:
        return [event.kind for event in await self.world.store.events(environment="shop")]


def run(directory: Path, tale: Callable[[Story], Awaitable[None]], *, volumes: bool = True) -> None:
    async def live() -> None:
        story = Story(directory, volumes=volumes)
        story.world.boot()
        try:
            await story.up()
            await tale(story)
        finally:
            await story.world.crash()

    run_virtually(live())


# Wherever the daemon dies


async def lived(directory: Path, point: str | None) -> dict[str, int]:
    """Asleep, awake, asleep, gone."""
    story = Story(directory)
    world = story.world
    world.boot()
    try:
        await story.up()
        before = story.guest
        world.faults.armed = point
        asleep = await story.want(Goal.SLEEP)
        assert (asleep.state, story.files) == (State.SLEEPING, {RAM})
        assert not world.hypervisor.domains
        awake = await story.want(Goal.RUN)
        assert (awake.start, awake.boot, story.files) == (StartMode.RESUME, 1, set())
        assert story.guest is before
        assert DOMAIN in world.guests.woken
        await story.want(Goal.SLEEP)
        await world.store.remove("shop", volumes=False, now=world.clock.now())
        await world.live(PEACE_SECONDS)
        assert not await world.store.environments()
        assert not world.hypervisor.domains
        assert world.faults.armed is None, "the point was never reached"
        await check_always(world)
        return dict(world.faults.seen)
    finally:
        await world.crash()


@functools.cache
def points() -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        seen = run_virtually(lived(Path(directory), None))
    return sorted(p for p in seen if p.split(":")[0] in {"sleep", "wake", "hypervisor", "note"})


@pytest.mark.parametrize("point", [p for p in points() if p != "hypervisor:paused"])
def test_a_daemon_killed_there_goes_on_where_it_was(point: str, tmp_path: Path) -> None:
    run_virtually(lived(tmp_path, point))


def test_the_run_passes_the_points_that_matter() -> None:
    assert set(points()) >= {
        "sleep:synced",
        "hypervisor:saved",
        "sleep:saved",
        "sleep:recorded",
        "wake:intended",
        "wake:restored",
        "wake:claimed",
        "wake:resumed",
        "wake:told",
        "wake:forgotten",
        "wake:recorded",
    }


@pytest.mark.parametrize(
    ("point", "boots"),
    [
        ("wake:intended", 1),
        ("wake:restored", 1),
        ("wake:claimed", 2),
        ("wake:resumed", 2),
        ("wake:told", 2),
        ("wake:forgotten", 2),
    ],
)
def test_a_guest_that_ends_with_the_daemon_runs_on_from_its_memory_or_boots(
    point: str, boots: int, tmp_path: Path
) -> None:
    """As in a power cut. What was only restored has not run."""

    async def tale(story: Story) -> None:
        world = story.world
        await story.want(Goal.SLEEP)
        world.faults.armed = point
        await world.store.set_goal("shop", Goal.RUN)
        story.wake_daemon()
        await world.faults.crashed.wait()
        world.hypervisor.vanish(DOMAIN)
        await story.rest()
        assert (await story.instance()).boot == boots
        assert ("memory-lost" in await story.kinds()) == (boots == 2)
        assert story.files == set()

    run(tmp_path, tale)


@pytest.mark.parametrize("point", ["sleep:synced", "sleep:saved"])
def test_a_guest_that_ends_with_the_daemon_on_its_way_into_sleep(
    point: str, tmp_path: Path
) -> None:
    async def tale(story: Story) -> None:
        world = story.world
        world.faults.armed = point
        await world.store.set_goal("shop", Goal.SLEEP)
        story.wake_daemon()
        await world.faults.crashed.wait()
        world.hypervisor.vanish(DOMAIN)
        await story.calm()
        saved = point == "sleep:saved"
        state = (await story.instance()).state
        assert state is (State.SLEEPING if saved else State.STOPPED)
        assert (await story.want(Goal.RUN)).boot == (1 if saved else 2)

    run(tmp_path, tale)


@pytest.mark.parametrize("goal", [Goal.RUN, Goal.STOP, Goal.PAUSE])
@pytest.mark.parametrize("point", ["sleep:synced", "sleep:saved", "wake:restored", "wake:resumed"])
def test_a_goal_that_changes_in_the_midst_of_it(point: str, goal: Goal, tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        world = story.world
        if point.startswith("wake"):
            await story.want(Goal.SLEEP)
        world.faults.armed = point
        await world.store.set_goal("shop", Goal.RUN if point.startswith("wake") else Goal.SLEEP)
        story.wake_daemon()
        await world.faults.crashed.wait()
        await world.store.set_goal("shop", goal)
        await story.calm()
        assert (await story.want(Goal.RUN)).state is State.READY
        assert "memory-lost" not in await story.kinds()

    run(tmp_path, tale)


# What goes wrong


@pytest.mark.parametrize("harm", ["damaged", "gone", "refused", "outlasted"])
def test_without_its_memory_it_boots_from_its_disk_and_says_so(harm: str, tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.want(Goal.SLEEP)
        if harm == "damaged":
            story.ram.write_bytes(b"LibvirtQemudPart")
        elif harm == "gone":
            story.ram.unlink()
        else:
            story.world.hypervisor.fail("wake", times=3 if harm == "refused" else 2)
        awake = await story.want(Goal.RUN)
        lost = harm != "outlasted"
        assert (awake.boot, awake.start) == ((2, StartMode.COLD) if lost else (1, StartMode.RESUME))
        assert ("memory-lost" in await story.kinds()) is lost
        assert story.files == set()

    run(tmp_path, tale)


def test_a_hypervisor_that_is_away_costs_no_memory(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.want(Goal.SLEEP)
        story.world.hypervisor.fail("wake", times=3)
        await story.world.store.set_goal("shop", Goal.RUN)
        story.wake_daemon()
        while (await story.instance()).state is not State.STARTING:
            await story.world.live(0.05)
        # Each look of the loop fails, too, until the action asks whether there is a guest.
        story.world.hypervisor.fail("guests", times=8)
        await story.rest()
        assert (await story.instance()).boot == 1

    run(tmp_path, tale)


def test_a_full_disk_keeps_it_awake(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        story.world.hypervisor.fail("save")
        await story.world.store.set_goal("shop", Goal.SLEEP)
        await story.rest()
        awake = await story.instance()
        assert (awake.goal, awake.state, awake.boot) == (Goal.RUN, State.READY, 1)
        assert "sleep-failed" in await story.kinds()
        assert story.files == set()
        assert (await story.want(Goal.SLEEP)).state is State.SLEEPING

    run(tmp_path, tale)


def test_a_failed_save_does_not_undo_another_order(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        story.world.hypervisor.fail("save")
        await story.world.store.set_goal("shop", Goal.SLEEP)
        story.wake_daemon()
        while not (await story.instance()).saving:
            await story.world.live(0.05)
        assert (await story.want(Goal.STOP)).state is State.STOPPED

    run(tmp_path, tale)


def test_a_clock_that_cannot_be_set_is_told(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.want(Goal.SLEEP)
        story.world.guests.failures["wake"] = [GuestError("no")]
        awake = await story.want(Goal.RUN)
        assert (awake.start, awake.boot) == (StartMode.RESUME, 1)
        told = [e.message for e in await story.world.store.events(environment="shop")]
        assert any("clock" in message for message in told)

    run(tmp_path, tale)


# What else can be asked of one that sleeps


@pytest.mark.parametrize("volumes", [True, False])
def test_a_new_revision_replaces_it(volumes: bool, tmp_path: Path) -> None:
    """With a volume it ends by itself first: what it only has in memory is written."""

    async def tale(story: Story) -> None:
        await story.want(Goal.SLEEP)
        before = await story.kinds()
        await story.up(environment={"REVISION": "2"})
        instance = await story.instance()
        assert (instance.ordinal, instance.revision, instance.state) == (2, 2, State.READY)
        assert (EventKind.INSTANCE_WOKEN in (await story.kinds())[len(before) :]) is volumes

    run(tmp_path, tale, volumes=volumes)


def test_stop_wakes_it_and_ends_it_well_and_pause_lets_it_sleep(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.want(Goal.SLEEP)
        assert (await story.want(Goal.PAUSE)).state is State.SLEEPING
        before = await story.kinds()
        assert (await story.want(Goal.STOP)).state is State.STOPPED
        after = (await story.kinds())[len(before) :]
        assert EventKind.INSTANCE_WOKEN in after
        assert EventKind.GUEST_DESTROYED not in after
        assert story.files == set()
        assert (await story.want(Goal.SLEEP)).state is State.STOPPED
        assert (await story.want(Goal.RUN)).boot == 2

    run(tmp_path, tale)


def test_a_paused_one_can_be_put_to_sleep(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.want(Goal.PAUSE)
        assert (await story.want(Goal.SLEEP)).state is State.SLEEPING
        awake = await story.want(Goal.RUN)
        assert (awake.start, awake.boot) == (StartMode.RESUME, 1)

    run(tmp_path, tale)


def test_one_that_is_removed_leaves_no_memory_behind(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.want(Goal.SLEEP)
        await story.world.store.scale("shop", {"web": 0}, now=story.world.clock.now())
        await story.rest()
        assert "memory-lost" not in await story.kinds()
        assert story.files == set()

    run(tmp_path, tale, volumes=False)


def test_the_proxy_lets_go_before_it_sleeps_and_it_counts_as_an_instance(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        world = story.world
        seen: list[bool] = []
        save = world.hypervisor.save

        async def watched(name: str, path: Path) -> None:
            backends = world.proxy.config.backends if world.proxy.config else ()
            seen.append(any(not s.closed for backend in backends for s in backend.servers))
            await save(name, path)

        world.hypervisor.save = watched  # type: ignore[method-assign]
        await story.want(Goal.SLEEP)
        assert seen == [False]
        await story.world.live(CALM_SECONDS)
        assert (await story.instance()).ordinal == 1

    run(tmp_path, tale)
