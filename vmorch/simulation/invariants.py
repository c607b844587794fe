"""What must hold at every moment, and what must hold once the world has been left in peace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal, Instance, State
from vmorch.simulation.watch import Violation
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


CALM_SECONDS = 20.0
NOTICED_SECONDS = 1.0
"""How soon the end of a guest of which an event told must be noticed; without, it is at the
daemon's next idle look."""

WARM = INSTALLATION.warm_domain("")
"""The beginning of what anonymous guests are called."""


async def check_always(world: World) -> None:
    """Holds between any two steps, whatever failed or crashed."""
    world.watch.raise_first()
    instances = await world.store.instances()
    _unique("address", [i.outer_address for i in instances])
    _unique("MAC", [i.mac for i in instances])
    _check_guests(world, instances)
    for instance in instances:
        own = world.hypervisor.domains.get(INSTALLATION.domain(*instance.key))
        if instance.state is State.READY and own is not None and not own.linked:
            raise Violation("an instance is ready, but its link is down", instance.name)
        if instance.state is State.READY and not instance.capped:
            raise Violation("an instance is ready, but still in its boot burst", instance.name)


def _check_guests(world: World, instances: Sequence[Instance]) -> None:
    guests = world.hypervisor.domains
    configs = [guest.config for guest in guests.values()]
    _unique("guest's uuid", [config.uuid for config in configs])
    _unique("guest's disk", [str(config.system_disk) for config in configs])
    _unique("volume", [str(volume.path) for config in configs for volume in config.volumes])
    by_domain = {INSTALLATION.domain(*i.key): i for i in instances}
    for name, guest in guests.items():
        if name.startswith(WARM):
            continue
        instance = by_domain.get(name)
        if instance is None:
            raise Violation("a guest runs, but nothing remembers it", name)
        if guest.config.uuid != instance.uuid:
            raise Violation("a guest has another instance's uuid", name)


async def check_prompt(world: World) -> None:
    """Holds while nothing goes wrong with the daemon: who died gets no traffic any more."""
    if world.calm_seconds() < CALM_SECONDS:
        return
    now = world.clock.now()
    for instance in await world.store.instances():
        domain = INSTALLATION.domain(*instance.key)
        ended = world.hypervisor.ended.get(domain)
        if instance.state is not State.READY or domain in world.hypervisor.domains:
            continue
        if ended is not None and now - ended > NOTICED_SECONDS:
            why = f"{instance.name} since {now - ended:.1f} s"
            raise Violation("a dead guest still gets traffic", why)


async def check_goals(world: World) -> None:
    """Holds after a while without faults: each instance is what its goal says, or waits."""
    await check_always(world)
    idle = {
        (environment.name, name)
        for environment in await world.store.environments()
        for name, spec in environment.spec.services.items()
        if spec.is_asleep
    }
    for instance in await world.store.instances():
        guest = world.hypervisor.domains.get(INSTALLATION.domain(*instance.key))
        if guest is not None and guest.config.identity.image in world.bad_images:
            continue  # its successor may wait for a service that a user has stopped
        seen = (instance.state, guest.state if guest else None)
        rests = (instance.environment, instance.service) in idle and seen == ASLEEP
        if seen not in AT_REST[instance.goal] and not (rests and instance.goal is Goal.RUN):
            what = f"{instance.name} should {instance.goal}, is {seen} ({instance.reason})"
            raise Violation("an instance is not what it should be", what)


SLICE_SECONDS = 10.0
QUIET_SECONDS = 40.0


async def come_to_rest(world: World, limit_seconds: float) -> None:
    """Let time pass until `check_at_rest` holds, and still holds a while later.

    Raises:
        Violation: it does not within the limit.
    """
    await settle(world, check_at_rest, limit_seconds)


async def settle(
    world: World, check: Callable[[World], Awaitable[None]], limit_seconds: float
) -> None:
    """The same for any check."""
    end = world.clock.now() + limit_seconds
    while True:
        await world.live(SLICE_SECONDS)
        try:
            await check(world)
        except Violation:
            if world.clock.now() >= end:
                raise
        else:
            break
    await world.live(QUIET_SECONDS)
    await check(world)


async def check_at_rest(world: World) -> None:
    """Holds after a while without faults: what is, is what was declared, and runs or has been
    completed."""
    await check_always(world)
    environments = {env.name: env for env in await world.store.environments()}
    instances = await world.store.instances()
    for environment in environments.values():
        if environment.removing:
            raise Violation("an environment is still being removed", environment.name)
        for name, spec in environment.spec.services.items():
            needs = [environment.spec.services[other] for other in spec.depends_on]
            if any(other.kept_replicas == 0 for other in needs):
                continue  # it waits, for as long as nobody has said otherwise
            mine = [i for i in instances if (i.environment, i.service) == (environment.name, name)]
            settled = State.SLEEPING if spec.is_asleep else State.READY
            good = [
                i
                for i in mine
                if (i.state is settled or _is_done(i)) and i.revision == environment.current[name]
            ]
            if len(mine) != spec.kept_replicas or len(good) != spec.kept_replicas:
                states = [f"{i.name} {i.state} ({i.reason})" for i in mine]
                what = f"{name} wants {spec.replicas} ready instances, has {states}"
                raise Violation("a service is not at rest", what)
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
    await _check_left(world, instances)


def _is_done(instance: Instance) -> bool:
    return instance.state is State.STOPPED and instance.exit_code == 0


def _check_caps(world: World, domains: list[str], cpus: float) -> None:
    for name in domains:
        if world.hypervisor.domains[name].cpus != cpus:
            raise Violation("a cap is wrong", f"{name}: {world.hypervisor.domains[name].cpus}")


def _check_proxy(world: World, instances: set[str]) -> None:
    backends = world.proxy.config.backends if world.proxy.config else ()
    for backend in backends:
        for server in backend.servers:
            if server.name not in instances or not server.admitted:
                raise Violation(
                    "the proxy knows who is not there", f"{server.name}, {backend.name}"
                )


def _unique(what: str, values: list[str]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise Violation(f"one {what} is there twice", twice[0])


async def _check_left(world: World, instances: Sequence[Instance]) -> None:
    """Nothing is left of what is gone: files of instances but for logs, volumes, drafts."""
    settings = world.parts.settings
    alive = {settings.instance_dir(i.environment, i.name) for i in instances}
    for name in ("disk.qcow2", "frozen.qcow2", "ram", "ram.spent"):
        for path in settings.instance_dir("", "").glob(f"*/*/{name}"):
            if path.parent not in alive:
                raise Violation("a file of a gone instance is left", str(path.name))
    known = {(v.environment, v.file_name) for v in await world.store.volumes()}
    for path in world.disks.disks:
        if (path.parent.name, path.name) not in known:
            raise Violation("a volume's disk is left", path.name)
    if world.network.names.keys() - world.network.ensured.keys():
        raise Violation("names of a gone network are left")
