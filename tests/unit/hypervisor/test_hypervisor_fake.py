"""The fake's own promises: time by its clock, faults that happen once, no guest twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmorch.errors import GuestError, HypervisorError
from vmorch.hypervisor.fake import FakeHypervisor
from vmorch.hypervisor.protocol import GuestConfig, GuestIdentity, GuestState

IDENTITY = GuestIdentity(
    owner="o", environment="e", service="s", ordinal=1, revision=1, image="i", boot=1
)
NOWHERE = Path("/nowhere")
CONFIG = GuestConfig(
    name="abcdef-e-s-1",
    uuid="u",
    identity=IDENTITY,
    vcpus=1,
    cpus=0.5,
    boot_cpus=1.0,
    memory_bytes=1,
    kernel=NOWHERE,
    initrd=NOWHERE,
    command_line="",
    system_disk=NOWHERE,
    seed_disk=NOWHERE,
    mac="",
    bridge="",
    tap="",
    service_log=NOWHERE,
    console_log=NOWHERE,
)
NAME = CONFIG.name


class ManualClock:
    """Time stands until it is slept or moved."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


def play(story: Callable[[FakeHypervisor, ManualClock], Awaitable[None]]) -> None:
    async def run() -> None:
        clock = ManualClock()
        await story(FakeHypervisor(clock), clock)

    asyncio.run(run())


async def state(hypervisor: FakeHypervisor) -> GuestState | None:
    return next((g.state for g in await hypervisor.guests()), None)


def test_the_agent_answers_once_the_guest_has_booted() -> None:
    async def story(fake: FakeHypervisor, clock: ManualClock) -> None:
        await fake.start(CONFIG)
        with pytest.raises(GuestError) as caught:
            await fake.agent(NAME, "guest-ping", {}, 5)
        assert caught.value.retryable
        clock.time += fake.boot_seconds
        assert await fake.agent(NAME, "guest-ping", {}, 5) == {}
        fake.domains[NAME].agent_silent = True
        before = clock.time
        with pytest.raises(GuestError):
            await fake.agent(NAME, "guest-ping", {}, 5)
        assert clock.time == before + 5

    play(story)


@pytest.mark.parametrize("call", ["start", "destroy", "guests", "set_cpus", "shutdown", "agent"])
def test_an_injected_failure_happens_once_and_changes_nothing(call: str) -> None:
    async def story(fake: FakeHypervisor, clock: ManualClock) -> None:
        if call != "start":
            await fake.start(CONFIG)
        clock.time += fake.boot_seconds
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "start": lambda: fake.start(CONFIG),
            "destroy": lambda: fake.destroy(NAME),
            "guests": fake.guests,
            "set_cpus": lambda: fake.set_cpus(NAME, 0.1),
            "shutdown": lambda: fake.shutdown(NAME),
            "agent": lambda: fake.agent(NAME, "guest-ping", {}, 1),
        }
        fake.fail(call)
        before = repr(fake.domains)
        with pytest.raises(HypervisorError, match="Injected"):
            await calls[call]()
        assert repr(fake.domains) == before
        await calls[call]()

    play(story)


def test_a_call_can_hang() -> None:
    async def story(fake: FakeHypervisor, _: ManualClock) -> None:
        fake.hang("start")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fake.start(CONFIG), 0.01)
        assert fake.domains == {}

    play(story)


def test_a_hung_guest_does_not_power_off() -> None:
    async def story(fake: FakeHypervisor, _: ManualClock) -> None:
        await fake.start(CONFIG)
        fake.domains[NAME].hung = True
        await fake.shutdown(NAME)
        await asyncio.sleep(0.01)
        assert await state(fake) is GuestState.RUNNING

    play(story)


def test_a_late_power_off_does_not_hit_the_next_guest_of_that_name() -> None:
    async def story(fake: FakeHypervisor, _: ManualClock) -> None:
        await fake.start(CONFIG)
        await fake.shutdown(NAME)
        fake.vanish(NAME)
        await fake.start(replace(CONFIG, identity=replace(IDENTITY, boot=2)))
        await asyncio.sleep(0.01)
        assert await state(fake) is GuestState.RUNNING

    play(story)


def test_ends_are_told_apart_and_a_vanished_guest_tells_nothing() -> None:
    async def story(fake: FakeHypervisor, _: ManualClock) -> None:
        hints = fake.hints()
        for end in (fake.kill, fake.power_off, fake.vanish, fake.panic):
            await fake.start(CONFIG)
            end(NAME)
        assert await state(fake) is GuestState.CRASHED
        with pytest.raises(HypervisorError, match="has ended"):
            await fake.start(CONFIG)
        await fake.destroy(NAME)
        seen = [(await anext(hints)).detail for _ in range(8)]
        assert [word for word in seen if word != "started"] == [
            "stopped: qemu died",
            "shutdown: guest",
            "crashed: panicked",
            "destroyed",
        ]

    play(story)
