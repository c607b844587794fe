"""Takes a script's steps in a world, one after the other; then peace, in which all must come right.

The same script comes to the same end. `live` raises Violation.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

from vmorch.errors import VmorchError
from vmorch.hypervisor.protocol import ObservedGuest
from vmorch.model.guest import GuestState
from vmorch.model.instance import Goal
from vmorch.model.names import backend_name
from vmorch.model.rollout import Phase
from vmorch.proxy.protocol import Mode
from vmorch.reconciler.loop import IDLE_SECONDS
from vmorch.simulation import steps as do
from vmorch.simulation.drafts import Drafts
from vmorch.simulation.invariants import (
    NOTICED_SECONDS,
    check_always,
    check_goals,
    check_prompt,
    come_to_rest,
    settle,
)
from vmorch.simulation.steps import Command, Harm, Script, Step
from vmorch.simulation.troubles import Trouble
from vmorch.simulation.virtual import run_virtually
from vmorch.simulation.watch import Violation
from vmorch.simulation.world import INSTALLATION, World

FOREIGN = ObservedGuest(
    name=INSTALLATION.domain("somebody", "elses", 1),
    uuid="f0" * 16,
    identity=None,
    state=GuestState.RUNNING,
)
"""It has our prefix, but bears no word of ours: it is nobody's business but its owner's."""
PEACE_SECONDS = 600.0
"""Longer than the longest back-off and the slowest removal, one after the other."""

TRIES = 6
PATIENCE_SECONDS = 60.0


class Life:
    """One run of a script."""

    def __init__(self, script: Script, directory: Path) -> None:
        self.world = World(script.seed, directory, warm=script.warm)
        self.world.hypervisor.foreign.append(FOREIGN)
        self._script = script
        self._drafts = Drafts(self.world)

    async def run(self) -> None:
        """Raises Violation."""
        self.world.boot()
        try:
            for step in self._script.steps:
                await self._take(step)
                await self.world.live(step.then)
                await check_always(self.world)
                await check_prompt(self.world)
            await self._peace()
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"the daemon died of {type(error).__name__}", str(error)) from error
        finally:
            await self.world.end()

    async def _peace(self) -> None:
        """Nothing goes wrong any more, and users declare only what can run."""
        self.world.calm()
        await self._come_to_terms()
        await settle(self.world, check_goals, PEACE_SECONDS)
        for record in await self.world.store.environments():
            await self.world.store.set_goal(record.name, Goal.RUN)
        await self._come_to_terms()
        await come_to_rest(self.world, PEACE_SECONDS)
        await self._ask_everybody()
        await self._drill()

    async def _come_to_terms(self) -> None:
        """Until there is nothing more for users to do: a rollout may fail for what was wrong
        before, and lead back to what they have to mend then."""
        for _ in range(TRIES):
            before = await self._versions()
            for record in await self.world.store.environments():
                await self._ordered(self._drafts.mend(record))
                await self._end_rollouts(record.name)
            await self.world.live(PATIENCE_SECONDS)
            if await self._versions() == before:
                return

    async def _versions(self) -> list[object]:
        """What changes with any order, and with any rollback."""
        store = self.world.store
        records = await store.environments()
        rollouts = [await store.latest_rollouts(record.name) for record in records]
        phases = [(r.key, r.phase, r.canary) for each in rollouts for r in each.values()]
        return [[record.version for record in records], phases]

    async def _end_rollouts(self, environment: str) -> None:
        """What a user or a failure holds goes on, and a canary becomes the revision."""
        for service in await self.world.store.latest_rollouts(environment):
            for command in (Command.RESUME, Command.PROMOTE):
                await self._ordered(self._steer(environment, service, command))

    async def _ask_everybody(self) -> None:
        """Who sleeps until somebody asks for it wakes when somebody does."""
        for record in await self.world.store.environments():
            for service in record.spec.services:
                self._ask(record.name, service)
        await self.world.live(PATIENCE_SECONDS)
        for record in await self.world.store.environments():
            for service, spec in record.spec.services.items():
                if spec.is_asleep:
                    raise Violation("a service sleeps that somebody asks for", service)
        await come_to_rest(self.world, PEACE_SECONDS)

    async def _drill(self) -> None:
        """What a daemon must notice by an event, and not at its next idle look: hence not now,
        when one has just been."""
        await self.world.live(0.4 * IDLE_SECONDS)
        for name in sorted(self.world.hypervisor.domains)[:1]:
            self.world.hypervisor.kill(name)
        await self.world.live(2 * NOTICED_SECONDS)
        await check_prompt(self.world)
        await come_to_rest(self.world, PEACE_SECONDS)

    async def _take(self, step: Step) -> None:
        world, store, now = self.world, self.world.store, self.world.clock.now()
        match step:
            case do.Up(environment=name, services=services, canary=canary):
                spec = self._drafts.environment(name, services)
                await self._ordered(store.apply(spec, now=now, canary=canary))
            case do.Scale(environment=name, service=service, replicas=count):
                await self._ordered(store.scale(name, {service: count}, now=now))
            case do.Down(environment=name, volumes=volumes):
                await self._ordered(store.remove(name, volumes=volumes, now=now))
            case do.Want(environment=name, goal=goal, service=service):
                named = (service,) if service else ()
                await self._ordered(store.set_goal(name, goal, services=named))
            case do.Steer(environment=name, service=service, command=command):
                await self._ordered(self._steer(name, service, command))
            case do.WarmUp(environment=name, service=service):
                if world.reconciler is not None:
                    world.reconciler.ask_warm_up(name, service)
            case do.DropSnapshot(pick=pick):
                await self._drop_snapshot(pick)
            case do.Hurt(harm=harm, pick=pick):
                await self._hurt(harm, pick)
            case do.Crash():
                await self._crash(step)
            case _:
                await self._disturb(step)

    async def _disturb(self, step: Step) -> None:
        world = self.world
        match step:
            case do.Ask(environment=environment, service=service):
                self._ask(environment, service)
            case do.LoseNetworks():
                for index in await world.network.present():
                    world.network.lose(index)
            case do.KillProxy():
                world.proxy.kill()
            case do.FillDisk(full=full):
                world.troubles.full = full
            case do.Spoil():
                trouble = Trouble(
                    port=step.port,
                    call=step.call,
                    kind=step.kind,
                    times=step.times,
                    about=step.about,
                )
                world.troubles.add(trouble)
            case do.Mishear(lose=lose, repeat=repeat, delay=delay):
                world.hearing.lose += lose
                world.hearing.repeat += repeat
                world.hearing.delay += delay

    def _ask(self, environment: str, service: str) -> None:
        backend = backend_name(environment, service, 80, Mode.TCP)
        if (session := self.world.proxy.connect(backend)) is not None:
            self.world.proxy.disconnect(session)

    async def _ordered(self, order: Awaitable[object]) -> None:
        """A user's order; that it may be refused is part of life."""
        try:
            await order
        except VmorchError:
            return
        if self.world.reconciler is not None:
            self.world.reconciler.wake()

    async def _steer(self, environment: str, service: str, command: Command) -> None:
        """As `vmorch rollout` does. Raises VmorchError: there is nothing to be steered so."""
        store = self.world.store
        rollout = await store.latest_rollout(environment, service)
        phase = rollout.phase
        if command is Command.UNDO and rollout.previous is not None:
            why, now = "undone by the user", self.world.clock.now()
            ended = rollout
            if rollout.is_open:
                ended = replace(rollout, phase=Phase.SUPERSEDED, reason=why, ended_at=now)
            await store.roll_back(ended, rollout.previous, was=rollout, reason=why, now=now)
        elif command is Command.PAUSE and phase is Phase.RUNNING:
            paused = replace(rollout, phase=Phase.PAUSED, reason="paused by the user")
            await store.put_rollout(paused, was=rollout)
        elif command is Command.RESUME and phase is Phase.PAUSED:
            await store.put_rollout(rollout.resumed(), was=rollout)
        elif command is Command.PROMOTE and rollout.is_open:
            await store.put_rollout(replace(rollout, canary=None), was=rollout)

    async def _drop_snapshot(self, pick: int) -> None:
        """As `vmorch snapshot rm` does."""
        present = await self.world.snapshots.all()
        if present and self.world.reconciler is not None:
            key = present[pick % len(present)].key
            self.world.reconciler.forgo_warm_up([key])
            await self.world.snapshots.remove(key)

    async def _hurt(self, harm: Harm, pick: int) -> None:
        hypervisor = self.world.hypervisor
        names = sorted(hypervisor.domains)
        if harm is Harm.HANG:
            # Who can tell a guest that hangs in its boot from a slow one?
            ready = [i for i in await self.world.store.instances() if i.ready_at is not None]
            names = sorted({INSTALLATION.domain(*i.key) for i in ready} & set(names))
        if not names:
            return
        name = names[pick % len(names)]
        match harm:
            case Harm.KILL:
                hypervisor.kill(name)
            case Harm.PANIC:
                hypervisor.panic(name)
            case Harm.POWER_OFF:
                hypervisor.power_off(name)
            case Harm.FREEZE:
                hypervisor.freeze(name)
            case Harm.HANG:
                hypervisor.domains[name].hung = True
            case Harm.SICKEN:
                self.world.sick.add(name)
            case Harm.VANISH:
                self.world.hearing.last_at = self.world.clock.now()
                hypervisor.vanish(name)

    async def _crash(self, step: do.Crash) -> None:
        if step.point:
            self.world.faults.armed, self.world.faults.skip = step.point, step.skip
        elif step.effects is not None:
            self.world.troubles.crash_in = step.effects
        else:
            await self.world.crash()
            self.world.boot()


def live(script: Script, directory: Path) -> None:
    """Run it in virtual time.

    Raises:
        Violation: an invariant does not hold.
    """

    async def life() -> None:
        await Life(script, directory).run()

    run_virtually(life())
