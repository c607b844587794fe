"""A random life for a daemon, from a seed: users' orders, failures, crashes; then peace.

The same seed gives the same life. `run` raises Violation with the steps that led there.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from vmorch.errors import NetworkError, Refused, VmorchError
from vmorch.model.instance import Goal
from vmorch.model.rollout import Phase
from vmorch.model.spec import (
    DependencyCondition,
    EnvironmentSpec,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
)
from vmorch.simulation.invariants import Violation, check_always, check_goals, come_to_rest
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.world import INSTALLATION, JOB, World

ENVIRONMENTS = ("red", "green")
SERVICES = ("web", "db")
STARTED_OR_HEALTHY = (DependencyCondition.STARTED, DependencyCondition.HEALTHY)
PEACE_SECONDS = 600.0
"""Longer than the longest back-off and the slowest removal, one after the other."""


class Life:
    """One run of the world. `steps` remembers what was done, for people."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.world = World(seed, directory)
        self.steps: list[str] = []
        self._images = [self.world.image(f"image{n}") for n in range(3)]

    async def run(self, count: int) -> None:
        """`count` random steps, then peace; raises Violation."""
        self.world.boot()
        try:
            for _ in range(count):
                await self._step()
                await self.world.live(self.random.choice((0.0, 0.1, 1.0, 5.0, 30.0)))
                await check_always(self.world)
            await self._peace()
        except VmorchError as error:
            raise Violation(self._story(f"{type(error).__name__}: {error.message}")) from error
        except Violation as violation:
            raise Violation(self._story(str(violation))) from violation
        finally:
            await self.world.crash()

    async def _peace(self) -> None:
        self.world.faults.armed = None
        self.world.network.failures.clear()
        self.world.sick.clear()
        await self.world.live(PEACE_SECONDS)
        await check_goals(self.world)
        for environment in await self.world.store.environments():
            await self.world.store.set_goal(environment.name, Goal.RUN)
            await self._resume_rollouts(environment.name)
        await come_to_rest(self.world, PEACE_SECONDS)

    async def _resume_rollouts(self, environment: str) -> None:
        """What failed in the storm is tried again."""
        for rollout in (await self.world.store.latest_rollouts(environment)).values():
            if rollout.phase is Phase.PAUSED:
                await self.world.store.put_rollout(rollout.resumed(), was=rollout)

    async def _step(self) -> None:
        orders: list[tuple[int, Callable[[], Awaitable[str]]]] = [
            (6, self._apply),
            (3, self._scale),
            (2, self._remove),
            (3, self._kill_guest),
            (1, self._panic),
            (1, self._power_off),
            (1, self._hang),
            (1, self._freeze),
            (2, self._order_goal),
            (2, self._sicken),
            (3, self._fail_calls),
            (1, self._lose_network),
            (1, self._kill_proxy),
            (4, self._arm_crash),
            (1, self._crash_now),
        ]
        weights, choices = zip(*orders, strict=True)
        (order,) = self.random.choices(choices, weights)
        self.steps.append(f"{self.world.clock.now() - 1_700_000_000:8.1f} {await order()}")

    async def _apply(self) -> str:
        name = self.random.choice(ENVIRONMENTS)
        services = {
            service: ServiceSpec(
                name=service,
                image=self.random.choice(self._images),
                replicas=self.random.randint(0, 3),
                cpus=self.random.choice((0.25, 0.5)),
                expose=(80,),
                restart=RestartPolicy(delay_seconds=self.random.choice((0.5, 5.0))),
            )
            for service in self.random.sample(SERVICES, self.random.randint(1, 2))
        }
        services |= self._job()
        if services.keys() >= set(SERVICES):
            needs = self.random.choice(({}, {"db": self.random.choice(STARTED_OR_HEALTHY)}))
            services["web"] = replace(services["web"], depends_on=needs)
        return await self._ordered(
            f"apply {name} {[(s.name, s.replicas) for s in services.values()]}",
            self.world.store.apply(
                EnvironmentSpec(name=name, services=services), now=self.world.clock.now()
            ),
        )

    def _job(self) -> dict[str, ServiceSpec]:
        """Now and then: what is over once it has been done."""
        if self.random.random() < 0.7:
            return {}
        policy = RestartPolicy(
            condition=self.random.choice((RestartCondition.NONE, RestartCondition.ON_FAILURE))
        )
        return {JOB: ServiceSpec(name=JOB, image=self._images[0], restart=policy, cpus=0.5)}

    async def _scale(self) -> str:
        name, service = self.random.choice(ENVIRONMENTS), self.random.choice(SERVICES)
        count = self.random.randint(0, 4)
        return await self._ordered(
            f"scale {name} {service}={count}",
            self.world.store.scale(name, {service: count}, now=self.world.clock.now()),
        )

    async def _remove(self) -> str:
        name = self.random.choice(ENVIRONMENTS)
        return await self._ordered(
            f"down {name}",
            self.world.store.remove(name, volumes=False, now=self.world.clock.now()),
        )

    async def _ordered(self, what: str, order: Awaitable[object]) -> str:
        """A user's order; that it may be refused is part of life."""
        try:
            await order
        except (Refused, VmorchError) as error:
            return f"{what}: {error.message}"
        if self.world.reconciler is not None:
            self.world.reconciler.wake()
        return what

    async def _kill_guest(self) -> str:
        return self._with_a_guest("kill", self.world.hypervisor.kill)

    async def _panic(self) -> str:
        return self._with_a_guest("panic", self.world.hypervisor.panic)

    async def _power_off(self) -> str:
        return self._with_a_guest("power off", self.world.hypervisor.power_off)

    async def _hang(self) -> str:
        """One that was ready: who can tell a guest that hangs in its boot from a slow one?"""
        ready = [i for i in await self.world.store.instances() if i.ready_at is not None]
        names = {INSTALLATION.domain(*instance.key) for instance in ready}
        guests = sorted(names & self.world.hypervisor.domains.keys())
        if not guests:
            return "hang: nobody is ready"
        name = self.random.choice(guests)
        self.world.hypervisor.domains[name].hung = True
        return f"hang {name}"

    async def _freeze(self) -> str:
        return self._with_a_guest("virsh suspend", self.world.hypervisor.freeze)

    async def _order_goal(self) -> str:
        """Of one service, or of the whole environment."""
        name = self.random.choice(ENVIRONMENTS)
        services = self.random.choice(((), *((service,) for service in SERVICES)))
        goal = self.random.choice((Goal.RUN, Goal.STOP, Goal.SLEEP, Goal.PAUSE))
        return await self._ordered(
            f"{goal} {name} {' '.join(services)}",
            self.world.store.set_goal(name, goal, services=services),
        )

    async def _sicken(self) -> str:
        return self._with_a_guest("sicken", self.world.sick.add)

    def _with_a_guest(self, what: str, harm: Callable[[str], None]) -> str:
        names = sorted(self.world.hypervisor.domains)
        if not names:
            return f"{what}: nobody is there"
        name = self.random.choice(names)
        harm(name)
        return f"{what} {name}"

    async def _fail_calls(self) -> str:
        call = self.random.choice(
            ("start", "guests", "destroy", "shutdown", "set_cpus", "save", "wake")
        )
        self.world.hypervisor.fail(call, self.random.randint(1, 3))
        return f"fail {call}"

    async def _lose_network(self) -> str:
        if self.random.random() < 0.5:
            self.world.network.failures.setdefault("ensure", []).append(
                NetworkError("Injected.", retryable=True)
            )
            return "fail network ensure"
        for index in await self.world.network.present():
            self.world.network.lose(index)
        return "lose networks"

    async def _kill_proxy(self) -> str:
        self.world.proxy.kill()
        return "kill proxy"

    async def _arm_crash(self) -> str:
        point = self.random.choice((*sorted(self.world.faults.seen), "*"))
        self.world.faults.armed = point
        return f"crash at {point}"

    async def _crash_now(self) -> str:
        await self.world.crash()
        self.world.boot()
        return "kill -9"

    def _story(self, end: str) -> str:
        return "\n".join([f"seed {self.seed}:", *self.steps, end])


def run(seed: int, *, steps: int, directory: Path) -> None:
    """Live one life in virtual time.

    Raises:
        Violation: an invariant does not hold; its text tells the life.
    """

    async def life() -> None:
        await Life(seed, directory).run(steps)

    run_virtually(life())
