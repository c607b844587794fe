"""The reconciler: looks, plans, acts, and ends each cycle in what an operator could read.

Actions on guests run as tasks of their own, so that one slow guest holds nobody else up; while
one runs, its instance is *busy* and nothing else is planned for it. Events of libvirt and of the
prober only wake the loop: what is true is observed anew in each cycle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import replace
from typing import Any

import structlog

from vmorch.errors import VmorchError, of_the_disk
from vmorch.model.event import EventKind
from vmorch.model.instance import Instance
from vmorch.planner.actions import (
    Action,
    CapGuest,
    CreateInstance,
    DestroyGuest,
    DestroyOrphan,
    Note,
    Plan,
    PutRollout,
    RemoveEnvironment,
    RemoveInstance,
    ResumeGuest,
    RollBack,
    ShutDownGuest,
    SleepGuest,
    StartGuest,
    SuspendGuest,
    WakeGuest,
    WarmUp,
)
from vmorch.planner.backoff import delay_seconds
from vmorch.planner.look import Look
from vmorch.planner.plan import plan
from vmorch.planner.snapshot import Snapshot
from vmorch.reconciler import perform
from vmorch.reconciler.calls import answer
from vmorch.reconciler.endings import ending
from vmorch.reconciler.looking import Looks
from vmorch.reconciler.observe import Memory, observe, snapshot_of
from vmorch.reconciler.parts import Parts
from vmorch.reconciler.reaper import keep_reaping
from vmorch.reconciler.signs import Signs
from vmorch.reconciler.sleeping import sleep_guest, wake_guest
from vmorch.reconciler.starting import start_guest
from vmorch.reconciler.storage import sweep_volumes
from vmorch.reconciler.sync import Sync
from vmorch.reconciler.telling import domain_of
from vmorch.reconciler.warming import warm_up

IDLE_SECONDS = 5.0
"""The longest time between two looks: what no event tells is seen by then."""

log = structlog.get_logger("vmorch.reconciler")


class Reconciler:
    """Runs until cancelled. `boots_at_once` bounds cold boots under way."""

    def __init__(
        self,
        parts: Parts,
        *,
        boots_at_once: int,
        time_scale: float,
        planner: Callable[[Snapshot, float], Plan] = plan,
    ) -> None:
        self._parts = parts
        self._plan = planner
        self._memory = Memory()
        self._looks = Looks(parts.clock, self._memory.busy)
        self._sync = Sync(parts, self._memory, time_scale=time_scale)
        self._signs = Signs(parts, self._memory)
        self._boots_at_once = boots_at_once
        self._time_scale = time_scale
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: dict[tuple[str, str, int] | str, int] = {}
        self._complaints: dict[tuple[str, str], str] = {}
        self._crash: BaseException | None = None

    def wake(self) -> None:
        """Look again now. May be called from any task of the loop."""
        self._woken.set()

    def ask_warm_up(self, environment: str, service: str) -> None:
        """Have a warm snapshot made of the service as it is declared, whatever was tried before.
        What comes of it is told by events. May be called from any task of the loop."""
        self._memory.wanted_warm.add((environment, service))
        self.wake()

    def forgo_warm_up(self, keys: Collection[str]) -> None:
        """Make these warm snapshots no more until a user asks."""
        self._memory.unwanted_warm |= set(keys)

    def last_look(self) -> Look | None:
        """What was seen last, and what is under way now; None before the first look. Made of what
        is at hand: whatever hangs, it answers at once."""
        return self._looks.last()

    async def run(self) -> None:
        watchers = (
            asyncio.create_task(self._listen(), name="reconciler-hints"),
            asyncio.create_task(self._mind_proxy(), name="reconciler-proxy"),
            asyncio.create_task(self._answer_calls(), name="reconciler-calls"),
            asyncio.create_task(keep_reaping(self._parts, self.wake), name="reconciler-reaper"),
        )
        try:
            while True:
                wake_at = await self._guarded_cycle()
                await self._rest(wake_at)
                if self._crash is not None:
                    raise self._crash
                for watcher in watchers:
                    if watcher.done():  # only ever by an error, which must not stay unseen
                        watcher.result()
        finally:
            for task in (*watchers, *self._tasks):
                task.cancel()
            await asyncio.gather(*watchers, *self._tasks, return_exceptions=True)
            await self._signs.close()

    async def cycle(self) -> float | None:
        """One look, plan and start of its actions; when to look again."""
        parts = self._parts
        await sweep_volumes(parts)
        observed = await observe(parts, self._memory)
        await self._sync.networks(observed)
        health = parts.prober.results()
        self._signs.take(observed, health)
        snapshot = snapshot_of(
            observed,
            self._memory,
            installation=parts.store.installation,
            health=health,
            time_scale=self._time_scale,
            boots_at_once=self._boots_at_once,
        )
        self._looks.take(snapshot)
        planned = self._plan(snapshot, parts.clock.now())
        for action in planned.actions:
            log.info("action", kind=type(action).__name__, reason=action.reason)
            self._looks.begin(action)
            await self._act(action)
        if await self._sync.traffic():
            self.wake()
        wakes = (planned.wake_at, *self._memory.word_due.values())
        return min((at for at in wakes if at is not None), default=None)

    async def settle(self) -> None:
        """Wait for the actions under way (for tests and for a clean end)."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _guarded_cycle(self) -> float | None:
        """A cycle that fails is told and tried again: the daemon never dies of what it saw."""
        try:
            return await self.cycle()
        except (VmorchError, OSError) as raised:
            error = of_the_disk(raised) if isinstance(raised, OSError) else raised
            log.warning("cycle failed", error=error.message, hint=error.hint)
            self._looks.fail(error.message)
            return self._parts.clock.now() + IDLE_SECONDS

    async def _rest(self, wake_at: float | None) -> None:
        now = self._parts.clock.now()
        seconds = IDLE_SECONDS if wake_at is None else min(IDLE_SECONDS, max(0.05, wake_at - now))
        sleeper = asyncio.ensure_future(self._parts.clock.sleep(seconds))
        waker = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()
        self._woken.clear()

    async def _listen(self) -> None:
        """Keep how guests ended, and look again whenever the hypervisor says something."""
        async for hint in self._parts.hypervisor.hints():
            end = ending(self._memory.ends.pop(hint.name, None), hint.detail)
            if end is not None:
                self._memory.ends[hint.name] = end
            self.wake()

    async def _mind_proxy(self) -> None:
        """All traffic stands still without it: its end is not left to the next idle look."""
        while True:
            await self._parts.proxy.wait_gone()
            self.wake()

    async def _answer_calls(self) -> None:
        async for backend in self._parts.proxy.calls():
            await answer(self._parts, backend)
            self.wake()

    async def _act(self, action: Action) -> None:
        """Quick writes at once, everything else as a task."""
        parts = self._parts
        match action:
            case CreateInstance():
                await self._tried(
                    action, action.environment, perform.create_instance(parts, action)
                )
            case Note():
                written = perform.note(parts, action)
                await self._tried(action, action.instance.environment, written)
            case PutRollout():
                await self._tried(
                    action, action.rollout.environment, perform.put_rollout(parts, action)
                )
            case RollBack():
                await self._tried(
                    action, action.rollout.environment, perform.roll_back(parts, action)
                )
            case StartGuest():
                self._memory.ends.pop(domain_of(parts, action.instance), None)
                self._spawn(action.instance, start_guest(parts, action))
            case CapGuest():
                self._spawn(action.instance, perform.cap_guest(parts, action))
            case SuspendGuest():
                self._spawn(action.instance, perform.suspend_guest(parts, action))
            case ResumeGuest():
                self._spawn(action.instance, perform.resume_guest(parts, action))
            case SleepGuest():
                self._spawn(action.instance, sleep_guest(parts, action))
            case WakeGuest():
                self._memory.ends.pop(domain_of(parts, action.instance), None)
                self._spawn(action.instance, wake_guest(parts, action))
            case ShutDownGuest():
                self._spawn(action.instance, perform.shut_down_guest(parts, action))
            case DestroyGuest():
                self._spawn(action.instance, perform.destroy_guest(parts, action))
            case RemoveInstance():
                self._spawn(action.instance, perform.remove_instance(parts, action))
            case DestroyOrphan():
                self._spawn(action.domain, perform.destroy_orphan(parts, action))
            case WarmUp():
                self._warm_up(action)
            case RemoveEnvironment():
                self._spawn(action.environment, perform.remove_environment(parts, action))

    async def _tried(self, action: Action, environment: str, work: Awaitable[None]) -> None:
        subject = (environment, type(action).__name__)
        try:
            await work
        except VmorchError as error:
            # Not woken: on a full disk everything fails, and would at once again.
            log.warning("action failed", environment=environment, error=error.message)
            await self._complain(subject, error)
        else:
            self._complaints.pop(subject, None)
            self.wake()

    async def _complain(self, subject: tuple[str, str], error: VmorchError) -> None:
        """As an event, once for as long as it lasts: it is tried again in each cycle."""
        if self._complaints.get(subject) == error.message:
            return
        self._complaints[subject] = error.message
        with contextlib.suppress(VmorchError):
            await self._parts.store.add_event(
                EventKind.ACTION_FAILED,
                f"{error.message} {error.hint}".strip(),
                now=self._parts.clock.now(),
                environment=subject[0],
            )

    def _spawn(self, subject: Instance | str, work: Coroutine[Any, Any, None]) -> None:
        key = subject if isinstance(subject, str) else subject.key
        self._memory.busy.add(key)
        task = asyncio.create_task(self._supervised(subject, key, work), name=f"action-{key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _warm_up(self, action: WarmUp) -> None:
        """Beside everything else: nobody waits for it."""
        subject = (action.environment, action.service, action.revision)
        self._memory.warming = subject
        task = asyncio.create_task(self._warming(subject, action), name="warm-up")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _warming(self, subject: tuple[str, str, int], action: WarmUp) -> None:
        try:
            made = await warm_up(self._parts, action)
            self._memory.cold.pop(subject, None)
            if made is not None:
                self._memory.unwanted_warm.discard(made.key)
        except (VmorchError, OSError) as raised:
            error = of_the_disk(raised) if isinstance(raised, OSError) else raised
            log.warning("no warm snapshot", service=action.service, error=error.message)
            self._memory.cold[subject] = self._memory.cold.get(subject, 0) + 1
            self._memory.wanted_warm.discard(subject[:2])
            with contextlib.suppress(VmorchError):
                await self._parts.store.add_event(
                    EventKind.SNAPSHOT_FAILED,
                    f"{error.message} {error.hint}".strip(),
                    now=self._parts.clock.now(),
                    environment=action.environment,
                    service=action.service,
                )
        except Exception as error:
            self._crash = error
            raise
        finally:
            self._memory.warming = None
            self.wake()

    async def _supervised(
        self,
        subject: Instance | str,
        key: tuple[str, str, int] | str,
        work: Coroutine[Any, Any, None],
    ) -> None:
        """Run one action; hold its subject back a while when it fails."""
        try:
            await work
            self._failures.pop(key, None)
        except (VmorchError, OSError) as raised:
            error = of_the_disk(raised) if isinstance(raised, OSError) else raised
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            try:
                await self._explain(subject, error)
            except VmorchError as unwritten:
                log.warning("a failure could not be written down", error=unwritten.message)
            pause = delay_seconds(failures, first=1.0)
            self._looks.hold(key, error.message, pause)
            await self._parts.clock.sleep(pause)
        except Exception as error:
            self._crash = error
            raise
        finally:
            self._memory.busy.discard(key)
            self.wake()

    async def _explain(self, subject: Instance | str, error: VmorchError) -> None:
        """The failure as an event, and as the instance's reason."""
        name = subject if isinstance(subject, str) else subject.name
        log.warning("action failed", subject=name, error=error.message, hint=error.hint)
        store, text = self._parts.store, f"{error.message} {error.hint}".strip()
        now = self._parts.clock.now()
        if isinstance(subject, str):
            await store.add_event(EventKind.ACTION_FAILED, text, now=now, environment=subject)
            return
        await store.add_event(
            EventKind.ACTION_FAILED,
            text,
            now=now,
            environment=subject.environment,
            service=subject.service,
            instance=subject.name,
        )
        for instance in await store.instances(subject.environment):
            if instance.key == subject.key:
                await store.put_instance(replace(instance, reason=error.message))
