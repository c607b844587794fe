"""What must hold at every moment, and what must hold once the world has been left in peace."""

from __future__ import annotations

from collections import Counter

from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.simulation.world import INSTALLATION, World

ASLEEP = (State.SLEEPING, None)
ENDED = frozenset({(State.STOPPED, None), (State.FAILED, None)})
AT_REST: dict[Goal, frozenset[tuple[State, GuestState | None]]] = {
    Goal.RUN: frozenset({(State.READY, GuestState.RUNNING), (State.PENDING, None)}),
    Goal.STOP: ENDED,
    Goal.SLEEP: ENDED | {ASLEEP},
    Goal.PAUSE: ENDED | {ASLEEP, (State.PAUSED, GuestState.PAUSED)},
    Goal.REMOVE: frozenset(),
}
"""State and guest of an instance with a goal, once nothing happens to it any more."""


WARM = INSTALLATION.warm_domain("")
"""The beginning of what anonymous guests are called."""


class Violation(AssertionError):
    """An invariant does not hold; the text says which and where."""


async def check_always(world: World) -> None:
    """Holds between any two steps, whatever failed or crashed."""
    instances = await world.store.instances()
    _unique("address", [i.outer_address for i in instances])
    _unique("MAC", [i.mac for i in instances])
    by_domain = {INSTALLATION.domain(*i.key): i for i in instances}
    for name, guest in world.hypervisor.domains.items():
        if name.startswith(WARM):
            continue
        instance = by_domain.get(name)
        if instance is None:
            raise Violation(f"the guest {name} runs, but nothing remembers it")
        if guest.config.uuid != instance.uuid:
            raise Violation(f"the guest {name} has another instance's uuid")
    for instance in instances:
        own = world.hypervisor.domains.get(INSTALLATION.domain(*instance.key))
        if instance.state is State.READY and own is not None and not own.linked:
            raise Violation(f"{instance.name} is ready, but its link is down")
        if instance.state is State.READY and not instance.capped:
            raise Violation(f"{instance.name} is ready, but still in its boot burst")


async def check_goals(world: World) -> None:
    """Holds after a while without faults: each instance is what its goal says, or waits."""
    await check_always(world)
    for name in world.hypervisor.domains:
        if name.startswith(WARM):
            raise Violation(f"the anonymous guest {name} still runs")
    for instance in await world.store.instances():
        guest = world.hypervisor.domains.get(INSTALLATION.domain(*instance.key))
        seen = (instance.state, guest.state if guest else None)
        if seen not in AT_REST[instance.goal]:
            raise Violation(
                f"{instance.name} should {instance.goal}, is {seen} ({instance.reason})"
            )


SLICE_SECONDS = 10.0
QUIET_SECONDS = 40.0


async def come_to_rest(world: World, limit_seconds: float) -> None:
    """Let time pass until `check_at_rest` holds, and still holds a while later.

    Raises:
        Violation: it does not within the limit.
    """
    end = world.clock.now() + limit_seconds
    while True:
        await world.live(SLICE_SECONDS)
        try:
            await check_at_rest(world)
        except Violation:
            if world.clock.now() >= end:
                raise
        else:
            break
    await world.live(QUIET_SECONDS)
    await check_at_rest(world)


async def check_at_rest(world: World) -> None:
    """Holds after a while without faults: what is, is what was declared, and runs or has been
    completed."""
    await check_always(world)
    environments = {env.name: env for env in await world.store.environments()}
    instances = await world.store.instances()
    for environment in environments.values():
        if environment.removing:
            raise Violation(f"{environment.name} is still being removed")
        for name, spec in environment.spec.services.items():
            if any(environment.spec.services[other].replicas == 0 for other in spec.depends_on):
                continue  # it waits, for as long as nobody has said otherwise
            mine = [i for i in instances if (i.environment, i.service) == (environment.name, name)]
            good = [
                i
                for i in mine
                if (i.state is State.READY or _is_done(i))
                and i.revision == environment.current[name]
            ]
            if len(mine) != spec.replicas or len(good) != spec.replicas:
                states = [f"{i.name} {i.state} ({i.reason})" for i in mine]
                raise Violation(f"{name} wants {spec.replicas} ready instances, has {states}")
            ready = [i for i in good if i.state is State.READY]
            _check_caps(world, [INSTALLATION.domain(*i.key) for i in ready], spec.cpus)
    running = {i.name for i in instances if not _is_done(i)}
    if len(world.hypervisor.domains) != sum(i.state is State.READY for i in instances):
        raise Violation("there are guests that nobody needs, or guests are missing")
    if any(i.goal is Goal.REMOVE for i in instances):
        raise Violation("an instance that should go is still there")
    if set(await world.network.present()) != {e.network.index for e in environments.values()}:
        raise Violation("there are networks that nobody needs, or networks are missing")
    _check_proxy(world, running)


def _is_done(instance: Instance) -> bool:
    return instance.state is State.STOPPED and instance.exit_code == 0


def _check_caps(world: World, domains: list[str], cpus: float) -> None:
    for name in domains:
        if world.hypervisor.domains[name].cpus != cpus:
            raise Violation(f"{name} may use {world.hypervisor.domains[name].cpus} CPUs")


def _check_proxy(world: World, instances: set[str]) -> None:
    backends = world.proxy.config.backends if world.proxy.config else ()
    for backend in backends:
        for server in backend.servers:
            if server.name not in instances or not server.admitted:
                raise Violation(f"the proxy knows {server.name} in {backend.name} at rest")


def _unique(what: str, values: list[str]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise Violation(f"the {what} {twice[0]} was given twice")
