"""Rollouts from beginning to end: what is served meanwhile, and what becomes of a bad revision."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from vmorch.model.event import EventKind
from vmorch.model.instance import Instance, State
from vmorch.model.rollout import FailureAction, Phase, Rollout, UpdateConfig, UpdateOrder
from vmorch.model.spec import EnvironmentSpec, RestartPolicy, ServiceSpec, VolumeMount, VolumeSpec
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import INSTALLATION, World

READY_SECONDS = 120.0
LONG = 600.0


class Shop:
    """One service `web`, and how many of its instances the proxy has ever been told to serve."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.least = 0
        self._apply = world.proxy.apply

    async def up(self, image: str, **changes: object) -> None:
        values = {"name": "web", "image": self.world.image(image), "replicas": 3, "cpus": 0.5}
        spec = ServiceSpec(**{**values, "expose": (80,), **changes})  # type: ignore[arg-type]
        volumes = {mount.source: VolumeSpec() for mount in spec.volumes}
        environment = EnvironmentSpec(name="shop", services={"web": spec}, volumes=volumes)
        await self.world.store.apply(environment, now=self.world.clock.now(), canary=self.canary)
        assert self.world.reconciler is not None
        self.world.reconciler.wake()

    canary: int | None = None

    def count_from_now(self) -> None:
        self.least = len(self.served())

        async def counted(config: object) -> None:
            await self._apply(config)  # type: ignore[arg-type]
            self.least = min(self.least, len(self.served()))

        self.world.proxy.apply = counted  # type: ignore[method-assign]

    def served(self) -> dict[str, int]:
        """Weights by server."""
        assert self.world.proxy.config is not None
        (backend,) = self.world.proxy.config.backends
        return {server.name: server.weight for server in backend.servers if server.admitted}

    async def rollout(self) -> Rollout:
        return await self.world.store.latest_rollout("shop", "web")

    async def revisions(self) -> list[int]:
        return sorted(i.revision for i in await self.instances() if i.state is State.READY)

    async def instances(self) -> list[Instance]:
        return list(await self.world.store.instances("shop"))

    async def happened(self, kind: EventKind) -> list[str]:
        return [e.message for e in await self.world.store.events() if e.kind is kind]


def play(directory: Path, story: Callable[[Shop], Awaitable[None]]) -> None:
    async def life() -> None:
        world = World(1, directory)
        world.boot()
        shop = Shop(world)
        await shop.up("one")
        await world.live(READY_SECONDS)
        assert await shop.revisions() == [1, 1, 1]
        assert (await shop.rollout()).phase is Phase.COMPLETED
        shop.count_from_now()
        await story(shop)
        await world.crash()

    run_virtually(life())


def test_successors_are_ready_before_their_forerunners_go(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        await shop.up("two")
        await shop.world.live(LONG)
        assert await shop.revisions() == [2, 2, 2]
        assert [i.ordinal for i in await shop.instances()] == [4, 5, 6]
        assert shop.least == 3
        rollout = await shop.rollout()
        assert (rollout.phase, rollout.passed) == (Phase.COMPLETED, (4, 5, 6))

    play(tmp_path, story)


def test_as_many_are_replaced_at_once_as_the_file_says(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        await shop.up("two", update=UpdateConfig(parallelism=2, monitor_seconds=30.0))
        most = 0
        for _ in range(40):
            await shop.world.live(5.0)
            most = max(most, len(await shop.instances()))
        assert most == 5
        assert await shop.revisions() == [2, 2, 2]

    play(tmp_path, story)


def test_the_delay_is_between_two_of_them(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        await shop.up("two", update=UpdateConfig(delay_seconds=100.0))
        await shop.world.live(3 * 100.0 + LONG)
        created = [
            event.time
            for event in await shop.world.store.events()
            if event.kind is EventKind.INSTANCE_CREATED and event.instance in {"web-4", "web-5"}
        ]
        passed = [e.time for e in await shop.world.store.events() if "web-4 ready for" in e.message]
        assert created[1] - passed[0] == pytest.approx(100.0, abs=6.0)
        assert await shop.revisions() == [2, 2, 2]

    play(tmp_path, story)


@pytest.mark.parametrize("well_seconds", [0.0, 10.0])
def test_a_bad_revision_is_rolled_back_by_itself(tmp_path: Path, well_seconds: float) -> None:
    async def story(shop: Shop) -> None:
        shop.world.bad_images[shop.world.image("two")] = well_seconds
        await shop.up("two", update=UpdateConfig(monitor_seconds=20.0))
        await shop.world.live(LONG)
        assert await shop.revisions() == [1, 1, 1]
        assert {i.ordinal for i in await shop.instances()} == {1, 2, 3}, "nobody else was touched"
        assert shop.least == 3
        back, bad = (await shop.rollout()), (await shop.world.store.rollouts("shop", "web"))[1]
        assert (back.phase, back.rollback, back.revision) == (Phase.COMPLETED, True, 1)
        assert (bad.phase, bad.failed) == (Phase.FAILED, (4,))
        assert "web-4" in bad.reason
        assert "HTTP 500" in bad.reason
        assert (await shop.happened(EventKind.ROLLED_BACK)) == [f"back to revision 1: {bad.reason}"]

    play(tmp_path, story)


def test_what_gets_sick_after_the_watch_is_no_failure_of_the_rollout(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        shop.world.bad_images[shop.world.image("two")] = 50.0
        await shop.up("two", update=UpdateConfig(monitor_seconds=20.0), replicas=1)
        await shop.world.live(100.0)
        assert (await shop.rollout()).phase is Phase.COMPLETED

    play(tmp_path, story)


def test_a_service_that_ends_by_itself_fails_its_rollout_at_once(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        await shop.up("two", restart=RestartPolicy(delay_seconds=5.0))
        for _ in range(200):
            await shop.world.live(0.5)
            name = INSTALLATION.domain("shop", "web", 4)
            if name in shop.world.hypervisor.domains:
                shop.world.hypervisor.kill(name)
                break
        await shop.world.live(LONG)
        assert await shop.revisions() == [1, 1, 1]
        (message,) = await shop.happened(EventKind.ROLLED_BACK)
        assert "web-4" in message

    play(tmp_path, story)


def test_a_failure_may_pause_and_be_borne(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        bad = shop.world.image("two")
        shop.world.bad_images[bad] = 0.0
        await shop.up("two", update=UpdateConfig(failure_action=FailureAction.PAUSE))
        await shop.world.live(LONG)
        paused = await shop.rollout()
        assert (paused.phase, paused.failed) == (Phase.PAUSED, (4,))
        assert len(await shop.instances()) == 4
        await shop.world.store.scale("shop", {"web": 4}, now=shop.world.clock.now())
        await shop.world.live(LONG)
        assert await shop.revisions() == [1, 1, 1], "four with the one that is not ready"
        del shop.world.bad_images[bad]
        await shop.world.store.put_rollout(paused.resumed(), was=paused)
        await shop.world.live(LONG)
        assert await shop.revisions() == [2, 2, 2, 2]
        assert shop.least == 3

    play(tmp_path, story)


def test_up_on_the_way_replaces_the_target(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        shop.world.bad_images[shop.world.image("two")] = 0.0
        await shop.up("two")
        await shop.world.live(15.0)
        await shop.up("three")
        await shop.world.live(LONG)
        assert await shop.revisions() == [3, 3, 3]
        assert shop.least == 3
        phases = [r.phase for r in await shop.world.store.rollouts("shop", "web")]
        assert phases == [Phase.COMPLETED, Phase.SUPERSEDED, Phase.COMPLETED]

    play(tmp_path, story)


def test_the_former_file_on_the_way_leads_back_to_the_former_revision(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        await shop.up("two", update=UpdateConfig(monitor_seconds=100.0))
        await shop.world.live(30.0)
        await shop.up("one")
        await shop.world.live(LONG)
        assert await shop.revisions() == [1, 1, 1]
        assert {i.ordinal for i in await shop.instances()} == {1, 2, 3}

    play(tmp_path, story)


def test_a_revision_that_was_rolled_back_is_tried_again_when_it_is_applied_again(
    tmp_path: Path,
) -> None:
    async def story(shop: Shop) -> None:
        bad = shop.world.image("two")
        shop.world.bad_images[bad] = 0.0
        await shop.up("two")
        await shop.world.live(LONG)
        assert await shop.revisions() == [1, 1, 1]
        del shop.world.bad_images[bad]
        await shop.up("two")
        await shop.world.live(LONG)
        assert await shop.revisions() == [2, 2, 2]

    play(tmp_path, story)


def test_a_canary_gets_its_share_and_waits_for_its_user(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        shop.canary = 20
        await shop.up("two")
        await shop.world.live(LONG)
        weights = shop.served()
        assert sorted(weights) == ["web-1", "web-2", "web-3", "web-4"]
        assert weights["web-4"] / sum(weights.values()) == pytest.approx(0.2, abs=0.005)
        waiting = await shop.rollout()
        assert (waiting.phase, waiting.passed) == (Phase.RUNNING, (4,))
        promoted = Rollout(**{**_fields(waiting), "canary": None})
        await shop.world.store.put_rollout(promoted, was=waiting)
        await shop.world.live(LONG)
        assert await shop.revisions() == [2, 2, 2]
        assert shop.least == 3
        assert len(set(shop.served().values())) == 1

    play(tmp_path, story)


def _fields(rollout: Rollout) -> dict[str, object]:
    return {name: getattr(rollout, name) for name in Rollout.__dataclass_fields__}


def test_stop_first_goes_down_by_no_more_than_it_says(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        order = UpdateConfig(order=UpdateOrder.STOP_FIRST, parallelism=2)
        await shop.up("two", update=order)
        most = 0
        for _ in range(120):
            await shop.world.live(5.0)
            most = max(most, len(await shop.instances()))
        assert (most, shop.least) == (3, 1)
        assert await shop.revisions() == [2, 2, 2]

    play(tmp_path, story)


def test_a_bad_revision_with_volumes_goes_back_too(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        mount = VolumeMount(source="data", target="/data", per_instance=True)
        await shop.up("two", volumes=(mount,))
        await shop.world.live(LONG)
        assert await shop.revisions() == [2, 2, 2]
        shop.count_from_now()
        shop.world.bad_images[shop.world.image("three")] = 0.0
        await shop.up("three", volumes=(mount,))
        await shop.world.live(LONG)
        assert await shop.revisions() == [2, 2, 2]
        assert shop.least == 2

    play(tmp_path, story)


def test_what_never_came_up_goes_at_once_in_either_order(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        world = shop.world
        for order in (UpdateOrder.START_FIRST, UpdateOrder.STOP_FIRST):
            bad, good = f"bad {order}", f"good {order}"
            world.bad_images[world.image(bad)] = 0.0
            await world.store.remove("shop", volumes=False, now=world.clock.now())
            await world.live(LONG)
            await shop.up(bad, update=UpdateConfig(order=order))
            await world.live(READY_SECONDS)
            await shop.up(good, update=UpdateConfig(order=order, monitor_seconds=60.0))
            await world.live(READY_SECONDS)
            assert await shop.revisions() == [2, 2, 2], "not one after the other"

    play(tmp_path, story)
