"""Traffic goes on through what does not concern it: an order given at any moment, a network that
cannot be mended just now, an old revision beside a new one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmorch.errors import NetworkError, ProxyError
from vmorch.model.event import EventKind
from vmorch.model.instance import EnvironmentNetwork
from vmorch.model.spec import EnvironmentSpec, HealthCheck, HealthKind, Route, ServiceSpec
from vmorch.network.fake import FakeNetwork
from vmorch.proxy.protocol import Endpoint, ProxyConfig
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import World

READY_SECONDS = 60.0


def served(config: ProxyConfig) -> set[str]:
    return {
        server.name
        for backend in config.backends
        for server in backend.servers
        if server.admitted and config.listeners
    }


def told(world: World) -> list[ProxyConfig]:
    """What the proxy is told from now on; its end is told as an empty configuration."""
    configs: list[ProxyConfig] = []
    apply, stop = world.proxy.apply, world.proxy.stop

    async def noted(config: ProxyConfig) -> None:
        configs.append(config)
        await apply(config)

    async def ended() -> None:
        configs.append(ProxyConfig())
        await stop()

    world.proxy.apply = noted  # type: ignore[method-assign]
    world.proxy.stop = ended  # type: ignore[method-assign]
    return configs


def play(directory: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def life() -> None:
        world = World(1, directory)
        world.boot()
        web = ServiceSpec(name="web", image=world.image("web"), replicas=2, expose=(80,))
        await world.store.apply(
            EnvironmentSpec(name="shop", services={"web": web}), now=world.clock.now()
        )
        await world.live(READY_SECONDS)
        await story(world)
        await world.crash()

    run_virtually(life())


def test_an_order_in_the_middle_of_a_cycle_costs_no_traffic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the networks and the word to the proxy lies a moment; an order given
    just then must not make the environment look like one without a network."""

    async def story(world: World) -> None:
        configs, ensure = told(world), FakeNetwork.ensure
        orders = iter((3, 2))

        async def ensure_then_order(
            self: FakeNetwork, network: EnvironmentNetwork, addresses: Sequence[str]
        ) -> None:
            await ensure(self, network, addresses)
            if (count := next(orders, None)) is not None:
                await world.store.scale("shop", {"web": count}, now=world.clock.now())

        monkeypatch.setattr(FakeNetwork, "ensure", ensure_then_order)
        await world.live(READY_SECONDS)
        assert next(orders, None) is None
        assert configs
        assert all(served(config) >= {"web-1", "web-2"} for config in configs)

    play(tmp_path, story)


@pytest.mark.parametrize("operation", ["ensure", "ensure_host"])
def test_a_network_that_cannot_be_mended_costs_no_traffic_and_is_told(
    tmp_path: Path, operation: str
) -> None:
    async def story(world: World) -> None:
        configs = told(world)
        world.network.failures[operation] = [NetworkError("nft said no")] * 1000
        await world.live(READY_SECONDS)
        assert all(served(config) == {"web-1", "web-2"} for config in configs)
        assert configs
        await world.store.scale("shop", {"web": 3}, now=world.clock.now())
        await world.live(READY_SECONDS)
        (third,) = [i for i in await world.store.instances() if i.name == "web-3"]
        assert third.reason == "waiting for the environment's network: nft said no"
        await world.store.remove("shop", volumes=False, now=world.clock.now())
        await world.live(10 * READY_SECONDS)
        assert not await world.store.environments(), "and does not keep it from going"

    play(tmp_path, story)


def test_an_instance_is_asked_what_its_own_revision_says(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        spec = (await world.store.environment("shop")).spec.services["web"]
        changed = ServiceSpec(
            name="web",
            image=spec.image,
            replicas=2,
            expose=(80,),
            cloud_init="#cloud-config\n",
            healthcheck=HealthCheck(kind=HealthKind.TCP),
        )
        await world.store.apply(
            EnvironmentSpec(name="shop", services={"web": changed}), now=world.clock.now()
        )
        world.hypervisor.hang("start", 2)
        await world.live(10.0)
        targets = {key[1]: target for key, target in world.prober.targets.items()}
        assert not targets["web-1"].wants_cloud_init
        assert targets["web-1"].check == spec.healthcheck, "of the new path it knows nothing"

    play(tmp_path, story)


def test_a_service_taken_away_while_the_network_cannot_be_mended(tmp_path: Path) -> None:
    """What was served last has it still; its address is gone."""

    async def story(world: World) -> None:
        db = ServiceSpec(name="db", image=world.image("db"), expose=(80,))
        world.network.failures["ensure"] = [NetworkError("Injected.", retryable=True)] * 5
        await world.store.apply(
            EnvironmentSpec(name="shop", services={"db": db}), now=world.clock.now()
        )
        await world.live(READY_SECONDS * 2)
        assert world.proxy.config is not None
        assert served(world.proxy.config) == {"db-1"}

    play(tmp_path, story)


def routed(name: str, **changes: Any) -> EnvironmentSpec:
    web = ServiceSpec(
        name="web",
        image="",
        expose=(80,),
        routes=(Route(host=f"{name}.localhost"),),
        **changes,
    )
    return EnvironmentSpec(name=name, services={"web": web})


async def applied(world: World, spec: EnvironmentSpec) -> None:
    services = {
        name: replace(service, image=world.image("web")) for name, service in spec.services.items()
    }
    await world.store.apply(replace(spec, services=services), now=world.clock.now())
    await world.live(READY_SECONDS)


async def failures(world: World) -> list[tuple[str, str]]:
    events = await world.store.events()
    return [(e.environment, e.message) for e in events if e.kind is EventKind.ACTION_FAILED]


@pytest.mark.parametrize("port", [8080, 8443])
def test_who_has_a_port_of_the_routes_costs_no_other_traffic(tmp_path: Path, port: int) -> None:
    async def story(world: World) -> None:
        taken = Endpoint(address="127.0.0.1", port=port)
        world.proxy.kill()
        world.proxy.taken.add(taken)
        await applied(world, routed("more"))
        config = world.proxy.config
        assert config is not None
        assert served(config) == {"web-1", "web-2"}
        assert bool(config.routes) is (port == 8443)
        assert not (config.routes and config.tls)
        [(environment, text)] = await failures(world)
        assert (environment, str(taken) in text) == ("", True)
        world.proxy.taken.clear()
        await world.live(READY_SECONDS)
        assert world.proxy.config is not None
        assert world.proxy.config.tls
        assert world.proxy.routed("more.localhost")

    play(tmp_path, story)


def test_an_environment_that_the_proxy_refuses_costs_the_others_nothing(tmp_path: Path) -> None:
    """As one that an older vmorch took."""
    odd = HealthCheck(kind=HealthKind.HTTP, argument=("/a b",))

    async def story(world: World) -> None:
        await applied(world, routed("odd", healthcheck=odd))
        await applied(world, routed("zoo"))
        assert world.proxy.routed("zoo.localhost")
        assert not world.proxy.routed("odd.localhost")
        [(environment, text)] = await failures(world)
        assert (environment, "'/a b'" in text) == ("odd", True)
        await applied(world, routed("odd"))
        assert world.proxy.routed("odd.localhost")

    play(tmp_path, story)


def test_a_proxy_that_refuses_everything_is_no_environments_fault(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        config = world.proxy.config
        world.proxy.refusal = ProxyError("It is not installed.")
        await applied(world, routed("more"))
        assert world.proxy.config == config
        assert not [environment for environment, _ in await failures(world) if environment]

    play(tmp_path, story)
