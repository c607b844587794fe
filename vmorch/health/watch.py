"""Watching one target: when to ask, and what the answers add up to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from vmorch.effects import Clock
from vmorch.errors import VmorchError
from vmorch.health.judge import History, Outcome, after, health, of_unit
from vmorch.health.probes import Connect, Insides, ask_command, ask_port
from vmorch.health.protocol import Health, Target
from vmorch.model.guest import GuestReport
from vmorch.model.spec import HealthKind

log = structlog.get_logger("vmorch.health")

# Until the first success the questions come quickly, so that readiness is seen at once; but not
# for ever, as a service that never comes up should not cost the host much.
_EAGER_SECONDS = 0.2
_EAGER_FOR_SECONDS = 120.0
# How often a guest that is not ready yet is asked how it is; that is a program it has to run.
_REPORT_SECONDS = 2.0
_REPORT_TIMEOUT_SECONDS = 5.0
# And not before this, scaled, when its port is asked or nothing: the program would take the
# processor from the service at the very time at which it starts.
_UNASKED_SECONDS = 2.0
# Questions that make the guest run something leave it at least this many times as long in peace.
_REST_WHILE_WAITING = 2.0
_REST = 10.0
# A guest that has not said anything by then is no longer taken to be booting.
_BOOT_SECONDS = 60.0
_IN_GUEST = frozenset({HealthKind.UNIT, HealthKind.CMD, HealthKind.CMD_SHELL})


class Watch:
    """`run` asks until it is cancelled; `health` is the state now."""

    def __init__(
        self,
        target: Target,
        *,
        clock: Clock,
        insides: Insides,
        connect: Connect,
        changed: Callable[[], None],
    ) -> None:
        self.target = target
        self.health = Health(healthy=None, since=clock.now(), message="booting")
        self._clock = clock
        self._insides = insides
        self._connect = connect
        self._changed = changed
        self._history = History()
        self._report: GuestReport | None = None
        self._begun = clock.now()
        self._booted_at: float | None = None
        self._succeeded = False
        self._counted_at = float("-inf")

    def inherit(self, former: Watch) -> None:
        """Go on with the same guest and another check: what is known stays until it is asked."""
        self.health = former.health
        self._history = former._history
        self._report = former._report
        self._begun = former._begun
        self._booted_at = former._booted_at
        self._succeeded = former._succeeded

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._check())
            if self.target.has_agent and self.target.check.kind is not HealthKind.UNIT:
                group.create_task(self._ask_reports())

    async def _check(self) -> None:
        while True:
            begun = self._clock.now()
            outcome = await self._guarded(self._ask())
            self._take(outcome)
            if self.target.check.kind is HealthKind.NONE:
                return
            await self._clock.sleep(self._pause(self._clock.now() - begun))

    def _pause(self, took_seconds: float) -> float:
        pause = self.target.check.interval_seconds
        eager_until = self._begun + _EAGER_FOR_SECONDS * self.target.time_scale
        waiting = not self._succeeded and self._clock.now() < eager_until
        if waiting:
            pause = min(pause, _EAGER_SECONDS)
        if self.target.check.kind in _IN_GUEST:
            pause = max(pause, took_seconds * (_REST_WHILE_WAITING if waiting else _REST))
        return pause

    async def _ask(self) -> Outcome:
        timeout = self.target.check.timeout_seconds * self.target.time_scale
        match self.target.check.kind:
            case HealthKind.NONE:
                return Outcome(True, "the guest runs, and nothing is checked")
            case HealthKind.HTTP | HealthKind.TCP:
                answer = ask_port(self._connect, self.target)
                return await _within(self._clock, timeout, answer)
            case HealthKind.UNIT if not self.target.has_agent:
                return Outcome(True, "the guest runs; without an agent it cannot be asked")
            case HealthKind.UNIT:
                return await self._ask_unit(timeout)
            case _ if not self.target.has_agent:
                return Outcome(False, "the image has no guest agent, which the check needs")
            case _:
                return await ask_command(self._insides, self.target, timeout)

    async def _ask_unit(self, timeout_seconds: float) -> Outcome:
        try:
            report = await self._insides.report(self.target.domain, timeout_seconds)
        except VmorchError as error:
            return Outcome(False, error.message)
        self._heard(report)
        return of_unit(report)

    async def _ask_reports(self) -> None:
        timeout = _REPORT_TIMEOUT_SECONDS * self.target.time_scale
        if self.target.check.kind not in _IN_GUEST and not self.target.wants_cloud_init:
            asked_from = self._begun + _UNASKED_SECONDS * self.target.time_scale
            await self._clock.sleep(max(0.0, asked_from - self._clock.now()))
        while True:
            begun = self._clock.now()
            if self.health.healthy is not True or self.target.check.kind is HealthKind.NONE:
                # Whatever stands between us and the guest may come back: libvirtd, its agent.
                with contextlib.suppress(VmorchError):
                    self._heard(await self._insides.report(self.target.domain, timeout))
                    self._publish()
            took = self._clock.now() - begun
            await self._clock.sleep(max(_REPORT_SECONDS, took * _REST_WHILE_WAITING))

    async def _guarded(self, asking: Awaitable[Outcome]) -> Outcome:
        """A mistake in a probe is that probe's failure, not the end of all probing."""
        try:
            return await asking
        except Exception as error:
            log.exception("probe failed", domain=self.target.domain)
            return Outcome(False, f"the probe itself failed: {error!r}")

    def _heard(self, report: GuestReport) -> None:
        self._report = report
        if self._booted_at is None:
            self._booted_at = self._clock.now()

    def _take(self, outcome: Outcome) -> None:
        now = self._clock.now()
        if outcome.ok:
            self._succeeded = True
            self._booted_at = now if self._booted_at is None else self._booted_at
        elif self._booting(now):
            outcome = Outcome(False, "booting")
        counts = not outcome.ok and self._counts(now)
        if counts:
            self._counted_at = now
        retries = self.target.check.retries
        self._history = after(self._history, outcome, counts=counts, retries=retries)
        self._publish()

    def _booting(self, now: float) -> bool:
        """Whether it is too early to expect anything."""
        allowed = self._begun + _BOOT_SECONDS * self.target.time_scale
        return self._booted_at is None and now < allowed

    def _counts(self, now: float) -> bool:
        """Whether a failure counts: once an interval, however eagerly we ask, and not before the
        start period is over. That begins when the guest has booted, as it is for the service."""
        if self._booting(now):
            return False
        if self._succeeded:
            return True
        begun = self._begun if self._booted_at is None else self._booted_at
        started = begun + self.target.check.start_period_seconds * self.target.time_scale
        return now >= max(started, self._counted_at + self.target.check.interval_seconds)

    def _publish(self) -> None:
        before = self.health
        self.health = health(
            before,
            self._history,
            self._report,
            now=self._clock.now(),
            wants_cloud_init=self.target.wants_cloud_init and self.target.has_agent,
        )
        if self.health != before:
            self._changed()


async def _within(clock: Clock, seconds: float, asking: Coroutine[Any, Any, Outcome]) -> Outcome:
    """The answer, unless it takes longer; by the given clock, so that time may be virtual."""
    answer = asyncio.create_task(asking)
    limit = asyncio.create_task(clock.sleep(seconds))
    try:
        await asyncio.wait({answer, limit}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        return Outcome(False, f"no answer within {seconds:g} s")
    finally:
        for task in (answer, limit):
            task.cancel()
        await asyncio.gather(answer, limit, return_exceptions=True)
