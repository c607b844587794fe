"""Warm snapshots and forks in the whole daemon: made once, used by all that come later, and never
half of one, wherever the daemon dies."""

from __future__ import annotations

import errno
import functools
import stat
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmorch.errors import GuestError
from vmorch.hypervisor.protocol import GuestConfig
from vmorch.model.image import RunConfig
from vmorch.model.instance import Goal, Instance, State
from vmorch.model.spec import EnvironmentSpec, ServiceSpec, StartMode, StartPolicy
from vmorch.simulation.invariants import WARM, check_always, come_to_rest
from vmorch.simulation.troubles import Kind, Trouble
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import INSTALLATION, World
from vmorch.store.protocol import EnvironmentRecord

PEACE_SECONDS = 120.0


class Story:
    def __init__(self, directory: Path, *, warm: bool = True) -> None:
        self.world = World(1, directory, warm=warm)
        self.image = self.world.image("web")

    async def up(self, replicas: int = 1, **changes: Any) -> EnvironmentRecord:
        values: dict[str, Any] = {
            "name": "web",
            "image": self.image,
            "replicas": replicas,
            "expose": (80,),
        }
        spec = EnvironmentSpec(name="shop", services={"web": ServiceSpec(**values | changes)})
        record = await self.world.store.apply(spec, now=self.world.clock.now())
        await self.settle()
        return record

    async def settle(self) -> None:
        assert self.world.reconciler is not None
        self.world.reconciler.wake()
        await come_to_rest(self.world, PEACE_SECONDS)

    async def cut_off(self, point: str) -> None:
        """A second instance is forked, and the daemon dies there."""
        world = self.world
        world.faults.armed = point
        spec = ServiceSpec(name="web", image=self.image, replicas=2, expose=(80,))
        apply = EnvironmentSpec(name="shop", services={"web": spec})
        await world.store.apply(apply, now=world.clock.now())
        assert world.reconciler is not None
        world.reconciler.wake()
        await world.faults.crashed.wait()
        await world.crash()

    async def instances(self) -> list[Instance]:
        return list(await self.world.store.instances("shop"))

    async def starts(self) -> list[StartMode]:
        return [instance.start for instance in await self.instances()]

    async def kinds(self) -> list[str]:
        events = await self.world.store.events(environment="shop")
        return [event.kind for event in events]

    async def messages(self, kind: str) -> list[str]:
        events = await self.world.store.events(environment="shop")
        return [event.message for event in events if event.kind == kind]

    async def ask(self) -> None:
        assert self.world.reconciler is not None
        self.world.reconciler.ask_warm_up("shop", "web")
        await self.settle()

    async def keys(self) -> set[str]:
        return {snapshot.key for snapshot in await self.world.parts.snapshots.all()}

    async def snapshots(self) -> int:
        return len(await self.world.parts.snapshots.all())


async def lived(directory: Path, point: str | None) -> dict[str, int]:
    """One is cold, a snapshot is made, two more are forked; all go."""
    story = Story(directory)
    world = story.world
    world.faults.armed = point
    world.boot()
    try:
        await story.up()
        await story.up(replicas=3)
        await check_always(world)
        assert [i.state for i in await story.instances()] == [State.READY] * 3
        (snapshot,) = await world.snapshots.all()
        assert stat.S_IMODE(snapshot.disk.stat().st_mode) == 0o440
        assert (await story.starts())[0] is StartMode.COLD
        if point is None or not point.startswith("fork:given-up"):
            assert (await story.starts())[1:] == [StartMode.FORK] * 2
        assert all(guest.linked for guest in world.hypervisor.domains.values())
        await world.store.remove("shop", volumes=False, now=world.clock.now())
        await story.settle()
        assert not world.hypervisor.domains
        left = list(world.parts.settings.snapshots_dir.glob(".*"))
        assert not left or point is not None
        assert world.faults.armed is None, "the point was never reached"
        return dict(world.faults.seen)
    finally:
        await world.crash()


@functools.cache
def points() -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        seen = run_virtually(lived(Path(directory), None))
    parts = {"warm", "fork", "start", "hypervisor"}
    return sorted(point for point in seen if point.split(":")[0] in parts)


@pytest.mark.parametrize("point", points())
def test_a_daemon_killed_there_leaves_nothing_half_done(point: str, tmp_path: Path) -> None:
    run_virtually(lived(tmp_path, point))


def test_the_run_passes_the_points_that_matter() -> None:
    expected = {"warm:draft", "warm:guest", "warm:saved", "warm:published"}
    expected |= {"hypervisor:saved", "hypervisor:restored"}
    assert expected | {"fork:lent", "fork:guest", "fork:told", "fork:linked"} <= set(points())


Tale = Callable[[Story], Awaitable[None]]


def run(directory: Path, tale: Tale, *, warm: bool = True, **settings: Any) -> None:
    async def live() -> None:
        story = Story(directory, warm=warm)
        parts = story.world.parts
        settled = replace(parts.settings, **settings)
        story.world.parts = replace(parts, settings=settled)
        story.world.boot()
        try:
            await tale(story)
        finally:
            await story.world.crash()

    run_virtually(live())


def test_an_environment_that_goes_takes_its_anonymous_guest_along(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        world = story.world
        world.guests.failures["report"] = [GuestError("not yet")] * 1000
        service = ServiceSpec(name="web", image=story.image)
        spec = EnvironmentSpec(name="shop", services={"web": service})
        await world.store.apply(spec, now=world.clock.now())
        assert world.reconciler is not None
        world.reconciler.wake()
        while not any(name.startswith(WARM) for name in world.hypervisor.domains):
            await world.clock.sleep(1.0)
        await world.store.remove("shop", volumes=False, now=world.clock.now())
        await story.settle()
        assert not world.hypervisor.domains
        assert await story.snapshots() == 0
        assert "snapshot-failed" not in await story.kinds()

    run(tmp_path, tale)


def test_a_fork_that_was_cut_off_boots_cold_on_a_new_disk_when_its_snapshot_is_gone(
    tmp_path: Path,
) -> None:
    """What the fork has written would stand on a disk that its boot does not know."""

    async def tale(story: Story) -> None:
        world = story.world
        await story.up()
        await story.cut_off("fork:guest")
        await world.parts.snapshots.remove((await story.keys()).pop())
        world.boot()
        await story.settle()
        assert await story.starts() == [StartMode.COLD] * 2
        assert not (world.parts.settings.instance_dir("shop", "web-2") / "frozen.qcow2").exists()

    run(tmp_path, tale)


@pytest.mark.parametrize("point", ["fork:marked", "fork:disk", "fork:guest", "fork:told"])
def test_a_fork_that_was_cut_off_and_stopped_starts_on_a_new_disk(
    tmp_path: Path, point: str
) -> None:
    """Its disk was written by a guest that was nobody yet."""

    async def tale(story: Story) -> None:
        world = story.world
        await story.up()
        await story.cut_off(point)
        await world.store.set_goal("shop", Goal.STOP, instances=("web-2",))
        world.boot()
        await world.live(PEACE_SECONDS)
        assert (await story.instances())[1].state is State.STOPPED
        await world.store.set_goal("shop", Goal.RUN, instances=("web-2",))
        await story.settle()
        second = (await story.instances())[1]
        assert (second.state, second.start, second.boot) == (State.READY, StartMode.COLD, 2)
        directory = world.parts.settings.instance_dir("shop", "web-2")
        assert not (directory / "frozen.qcow2").exists()
        assert not (directory / "forking").exists()

    run(tmp_path, tale)


def test_a_fork_that_is_who_it_should_be_keeps_its_disk_when_it_was_stopped(
    tmp_path: Path,
) -> None:
    async def tale(story: Story) -> None:
        world = story.world
        await story.up()
        await story.cut_off("fork:unmarked")
        await world.store.set_goal("shop", Goal.STOP, instances=("web-2",))
        world.boot()
        await world.live(PEACE_SECONDS)
        await world.store.set_goal("shop", Goal.RUN, instances=("web-2",))
        await story.settle()
        assert (world.parts.settings.instance_dir("shop", "web-2") / "frozen.qcow2").exists()

    run(tmp_path, tale)


def test_an_anonymous_guest_is_ended_also_when_its_environment_is_gone(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        world = story.world
        world.faults.armed = "warm:guest"
        service = ServiceSpec(name="web", image=story.image)
        spec = EnvironmentSpec(name="shop", services={"web": service})
        await world.store.apply(spec, now=world.clock.now())
        assert world.reconciler is not None
        world.reconciler.wake()
        await world.faults.crashed.wait()
        await world.crash()
        await world.store.remove("shop", volumes=False, now=world.clock.now())
        world.boot()
        await story.settle()
        assert not world.hypervisor.domains

    run(tmp_path, tale)


def test_whoever_opts_out_gets_no_snapshot(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up(start=StartPolicy.COLD)
        await story.up(replicas=2, start=StartPolicy.COLD)
        assert await story.snapshots() == 0
        assert await story.starts() == [StartMode.COLD] * 2

    run(tmp_path, tale)


def test_a_guest_s_own_units_are_not_forked_as_nothing_starts_them_anew(tmp_path: Path) -> None:
    """They would have run without the volume, the secret and the identity of the fork."""

    async def tale(story: Story) -> None:
        story.image = story.world.images.add("units", RunConfig(exposed_ports=(80,))).digest
        await story.up()
        assert "snapshot-begun" not in await story.kinds()
        await story.up(start=StartPolicy.FORK, keep_service=True)
        assert await story.snapshots() == 1
        await story.up(replicas=2, start=StartPolicy.FORK, keep_service=True)
        await story.up(replicas=3)
        assert await story.starts() == [StartMode.COLD, StartMode.FORK, StartMode.COLD]

    run(tmp_path, tale)


def test_a_fork_that_does_not_become_itself_boots_cold_on_a_new_disk(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up()
        story.world.guests.failures["become"] = [GuestError("it does not answer")]
        await story.up(replicas=2)
        assert await story.starts() == [StartMode.COLD] * 2
        assert "fork-failed" in await story.kinds()
        assert await story.snapshots() == 1
        directory = story.world.parts.settings.instance_dir("shop", "web-2")
        assert not (directory / "frozen.qcow2").exists()

    run(tmp_path, tale)


def test_a_fork_goes_by_one_snapshot_when_another_takes_its_place(tmp_path: Path) -> None:
    """Memory of one boot over the disk of another would tear the disk to pieces."""

    async def tale(story: Story) -> None:
        world = story.world
        await story.up()
        (key,) = await story.keys()
        forked, create = [], world.images.create_fork

        async def slow(frozen: Path, path: Path) -> None:
            await create(frozen, path)
            (old,) = await world.snapshots.all()
            forked.append(old.ram.read_bytes())
            await world.snapshots.remove(key)
            draft = await world.snapshots.draft(key)
            for name in ("ram", "disk.qcow2"):
                (draft / name).write_bytes(b"a guest of the fake hypervisor, another one")
            await world.snapshots.publish(
                draft, key=key, service="web", image=story.image, with_service=True
            )

        fork = world.hypervisor.fork

        async def seen(config: GuestConfig, saved: Path) -> None:
            forked.append(saved.read_bytes())
            await fork(config, saved)

        world.images.create_fork = slow  # type: ignore[method-assign]
        world.hypervisor.fork = seen  # type: ignore[method-assign]
        await story.up(replicas=2)
        assert await story.starts() == [StartMode.COLD, StartMode.FORK]
        assert forked[0] == forked[1]
        directory = world.parts.settings.instance_dir("shop", "web-2")
        assert not (directory / "frozen.ram").exists()

    run(tmp_path, tale)


def test_a_fork_for_which_the_disk_has_no_room_boots_cold(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up()

        async def full(frozen: Path, path: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        story.world.images.create_fork = full  # type: ignore[method-assign]
        await story.up(replicas=2)
        assert await story.starts() == [StartMode.COLD] * 2
        assert "action-failed" not in await story.kinds()
        assert "No space left" in (await story.messages("fork-failed"))[0]

    run(tmp_path, tale)


def test_a_fork_whose_agent_never_answers_boots_cold(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up()
        silent = Trouble(port="guests", call="become", kind=Kind.HANGS)
        story.world.troubles.add(silent)
        await story.up(replicas=2)
        assert await story.starts() == [StartMode.COLD] * 2
        assert (await story.kinds()).count("fork-failed") == 1

    run(tmp_path, tale)


def test_a_snapshot_that_fails_again_and_again_is_given_up(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up()
        story.world.guests.failures["become"] = [GuestError("no")] * 3
        await story.up(replicas=4)
        assert (await story.kinds()).count("fork-failed") == 3
        assert "snapshot-removed" in await story.kinds()

    run(tmp_path, tale)


def test_one_whose_forks_always_fail_is_not_made_for_ever(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up()
        story.world.guests.failures["become"] = [GuestError("no")] * 100
        for replicas in range(4, 16, 3):
            await story.up(replicas=replicas)
        assert (await story.kinds()).count("snapshot-made") == 2
        assert (await story.kinds()).count("fork-failed") == 6
        assert "made when somebody asks for it" in (await story.messages("snapshot-removed"))[-1]
        story.world.guests.failures.clear()
        await story.ask()
        await story.up(replicas=16)
        assert (await story.starts())[-1] is StartMode.FORK

    run(tmp_path, tale)


@pytest.mark.parametrize(("port", "call"), [("guests", "write_seed"), ("hypervisor", "raise_link")])
def test_troubles_that_are_not_the_snapshot_s_are_not_held_against_it(
    tmp_path: Path, port: str, call: str
) -> None:
    async def tale(story: Story) -> None:
        await story.up()
        for replicas in range(2, 8):
            story.world.troubles.add(Trouble(port=port, call=call))
            await story.up(replicas=replicas)
        assert "snapshot-removed" not in await story.kinds()
        if call == "write_seed":
            assert "fork-failed" not in await story.kinds()
            assert (await story.starts())[1:] == [StartMode.FORK] * 6

    run(tmp_path, tale)


def test_a_fork_that_was_given_up_is_not_tried_once_more(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up()
        story.world.guests.failures["become"] = [GuestError("no")]
        await story.cut_off("fork:given-up")
        story.world.boot()
        await story.settle()
        assert await story.starts() == [StartMode.COLD] * 2
        assert story.world.faults.seen["fork:marked"] == 1

    run(tmp_path, tale)


def test_a_fork_that_succeeds_ends_the_memory_of_failures(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up()
        for replicas in (2, 4, 6):
            story.world.guests.failures["become"] = [GuestError("no")]
            await story.up(replicas=replicas)
        assert (await story.kinds()).count("fork-failed") == 3
        assert "snapshot-removed" not in await story.kinds()

    run(tmp_path, tale)


def test_a_restarted_fork_boots_from_its_own_disk(tmp_path: Path) -> None:
    """Its disk has moved on: with the snapshot's memory it would be torn to pieces."""

    async def tale(story: Story) -> None:
        await story.up()
        await story.up(replicas=2)
        story.world.hypervisor.kill(INSTALLATION.domain("shop", "web", 2))
        await story.settle()
        second = (await story.instances())[1]
        assert (second.start, second.boot) == (StartMode.COLD, 2)
        assert (story.world.parts.settings.instance_dir("shop", "web-2") / "frozen.qcow2").exists()

    run(tmp_path, tale)


def test_another_revision_has_another_snapshot(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up()
        await story.up(environment={"REVISION": "2"})
        assert await story.snapshots() == 2

    run(tmp_path, tale)


def test_a_service_that_never_gets_warm_is_left_alone_after_a_while(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        story.world.hypervisor.fail("save", times=5)
        await story.up()
        assert (await story.kinds()).count("snapshot-failed") == 2
        assert await story.snapshots() == 0
        assert not list(story.world.parts.settings.snapshots_dir.glob(".*"))

    run(tmp_path, tale)


def test_a_draft_goes_also_when_its_guest_cannot_be_ended_at_once(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        story.world.hypervisor.fail("save", times=2)
        story.world.troubles.add(Trouble(port="hypervisor", call="destroy", about=WARM, times=2))
        await story.up()
        assert (await story.kinds()).count("snapshot-failed") == 2
        assert not list(story.world.parts.settings.snapshots_dir.glob(".*"))
        assert not [name for name in story.world.hypervisor.domains if name.startswith(WARM)]

    run(tmp_path, tale)


def test_whoever_asks_gets_one_also_where_none_is_made_unasked(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up()
        assert await story.snapshots() == 0
        await story.ask()
        assert await story.snapshots() == 1
        assert (await story.kinds())[-2:] == ["snapshot-begun", "snapshot-made"]
        await story.up(replicas=2)
        assert await story.starts() == [StartMode.COLD, StartMode.FORK]

    run(tmp_path, tale, warm=False)


def test_a_wish_needs_no_instance_and_is_granted_once(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up(replicas=0)
        assert await story.snapshots() == 0
        await story.ask()
        await story.ask()
        assert await story.snapshots() == 1
        assert (await story.kinds()).count("snapshot-made") == 1
        await story.up()
        assert await story.starts() == [StartMode.FORK]

    run(tmp_path, tale)


def test_a_wish_is_tried_again_after_failures_and_a_failed_one_is_over(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        story.world.hypervisor.fail("save", times=3)
        await story.up()
        assert (await story.kinds()).count("snapshot-failed") == 2
        await story.ask()
        assert (await story.kinds()).count("snapshot-failed") == 3
        assert await story.snapshots() == 0
        await story.ask()
        assert await story.snapshots() == 1

    run(tmp_path, tale)


def test_a_wish_for_a_service_that_cannot_be_forked_does_nothing(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up(start=StartPolicy.COLD)
        await story.ask()
        assert "snapshot-begun" not in await story.kinds()
        await story.up()
        assert "snapshot-failed" not in await story.kinds()

    run(tmp_path, tale, warm=False)


def test_what_a_user_removed_comes_back_only_when_asked_for(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up()
        (key,) = await story.keys()
        assert story.world.reconciler is not None
        story.world.reconciler.forgo_warm_up([key])
        await story.world.parts.snapshots.remove(key)
        await story.settle()
        assert await story.keys() == set()
        await story.ask()
        assert await story.keys() == {key}

    run(tmp_path, tale)


def test_the_longest_unused_goes_when_there_are_too_many(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        keys = []
        for number in ("1", "2", "3"):
            await story.up(environment={"REVISION": number})
            keys += (await story.keys()) - set(keys)
        assert await story.keys() == set(keys[1:])
        await story.up(environment={"REVISION": "2"})  # forked from the second
        await story.up(environment={"REVISION": "4"})
        assert await story.keys() == {keys[1]} | (await story.keys()) - set(keys)
        assert (await story.kinds()).count("snapshot-removed") == 2

    run(tmp_path, tale, snapshots_kept=2)


def test_what_is_declared_is_kept_however_many_there_are(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        await story.up()
        await story.up(environment={"REVISION": "2"})
        assert await story.snapshots() == 1
        await story.up(replicas=2, environment={"REVISION": "2"})
        assert StartMode.FORK in await story.starts()

    run(tmp_path, tale, snapshots_kept=0)


def test_a_snapshot_of_an_image_that_was_made_anew_meanwhile_is_not_kept(tmp_path: Path) -> None:
    async def tale(story: Story) -> None:
        images, save = story.world.images, story.world.hypervisor.save

        async def slow(name: str, path: Path) -> None:
            await save(name, path)
            manifest = images.manifests[story.image]
            images.manifests[story.image] = replace(manifest, created_at=manifest.created_at + 1)

        story.world.hypervisor.save = slow  # type: ignore[method-assign]
        await story.up()
        assert "snapshot-failed" in await story.kinds()
        assert await story.snapshots() == 0

    run(tmp_path, tale)
