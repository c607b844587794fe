"""One suite for the fake and for the driver on libvirt's own `test:///default`.

libvirt's test driver knows neither a paused start nor CPU caps nor agents; what needs them is
replaced here, and real guests (tests/real) show it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from vmorch.effects import SystemClock
from vmorch.errors import GuestError, HypervisorError
from vmorch.hypervisor import domains
from vmorch.hypervisor.acceleration import AccelerationProbe
from vmorch.hypervisor.connection import CALLS_AT_ONCE
from vmorch.hypervisor.driver import LibvirtHypervisor
from vmorch.hypervisor.fake import FakeHypervisor
from vmorch.hypervisor.protocol import (
    GuestConfig,
    GuestHint,
    GuestIdentity,
    GuestState,
    Hypervisor,
)
from vmorch.model.guest import Acceleration
from vmorch.model.names import Installation

OURS = Installation("abcdef" + "0" * 26)
THEIRS = Installation("abcdef" + "1" * 26)

Open = Callable[[], AbstractAsyncContextManager[Hypervisor]]


@pytest.fixture
def config(tmp_path: Path) -> GuestConfig:
    disk, seed = tmp_path / "disk.qcow2", tmp_path / "seed.iso"
    disk.touch()
    seed.touch()
    return GuestConfig(
        name=OURS.domain("demo", "hello", 1),
        uuid="6a1f4c1e-3a35-4c57-9b3c-1f6b0a5f0c01",
        identity=GuestIdentity(
            owner=OURS.id,
            environment="demo",
            service="hello",
            ordinal=1,
            revision=2,
            image="sha256:5a",
            boot=3,
        ),
        vcpus=1,
        cpus=0.5,
        boot_cpus=1.0,
        memory_bytes=64 * 1024 * 1024,
        kernel=tmp_path / "vmlinuz",
        initrd=tmp_path / "initrd",
        command_line="quiet",
        system_disk=disk,
        seed_disk=seed,
        mac="52:54:00:12:34:56",
        bridge="abcdef-br0",
        tap="abcdef-t0-64",
        service_log=tmp_path / "service.log",
        console_log=tmp_path / "console.log",
    )


def create_in_steps(connection: libvirt.virConnect, document: str) -> libvirt.virDomain:
    domain = connection.createXML(document, libvirt.VIR_DOMAIN_START_VALIDATE)
    domain.suspend()
    return domain


async def no_kernel() -> Path:
    raise AssertionError("TCG is forced: nothing is to be probed")


def libvirt_driver(directory: Path, installation: Installation = OURS) -> LibvirtHypervisor:
    probe = AccelerationProbe(directory / "acceleration.json", no_kernel)
    return LibvirtHypervisor(
        "test:///default",
        installation,
        "tcg",
        probe,
        directory=directory / "hypervisor",
        clock=SystemClock(),
    )


@pytest.fixture
def test_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domains, "create", create_in_steps)
    monkeypatch.setattr(domains, "limit_cpus", lambda _domain, _cpus: None)
    monkeypatch.setattr(domains, "ask_agent_to_power_off", lambda domain: domain.shutdown())


@pytest.fixture(params=["fake", "libvirt"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, test_driver: None) -> Open:
    @asynccontextmanager
    async def open_one() -> AsyncIterator[Hypervisor]:
        one: Hypervisor = (
            FakeHypervisor(SystemClock(), boot_seconds=0, shutdown_seconds=0.01)
            if request.param == "fake"
            else libvirt_driver(tmp_path)
        )
        try:
            yield one
        finally:
            for guest in await one.guests():
                await one.destroy(guest.name)
            await one.close()

    return open_one


def play(opened: Open, story: Callable[[Hypervisor], Awaitable[None]]) -> None:
    async def run() -> None:
        async with opened() as hypervisor:
            await story(hypervisor)

    asyncio.run(run())


async def details_until(hints: AsyncIterator[GuestHint], last: str) -> list[str]:
    seen = []
    async with asyncio.timeout(10):
        async for hint in hints:
            seen.append(hint.detail)
            if hint.detail == last:
                break
    return seen


def test_a_started_guest_is_observed_with_its_identity(opened: Open, config: GuestConfig) -> None:
    async def story(hypervisor: Hypervisor) -> None:
        assert (await hypervisor.acceleration()).acceleration is Acceleration.TCG
        assert list(await hypervisor.guests()) == []
        await hypervisor.start(config)
        (guest,) = await hypervisor.guests()
        assert (guest.name, guest.uuid) == (config.name, config.uuid)
        assert guest.identity == config.identity
        assert guest.state is GuestState.RUNNING

    play(opened, story)


def test_counters_are_told_by_uuid_and_only_of_guests_that_live(
    opened: Open, config: GuestConfig
) -> None:
    async def story(hypervisor: Hypervisor) -> None:
        assert dict(await hypervisor.counters()) == {}
        await hypervisor.start(config)
        first = await hypervisor.counters()
        assert list(first) == [config.uuid]
        again = await hypervisor.counters()
        assert again[config.uuid].life == first[config.uuid].life
        await hypervisor.destroy(config.name)
        assert dict(await hypervisor.counters()) == {}

    play(opened, story)


def test_every_call_can_be_repeated(opened: Open, config: GuestConfig) -> None:
    async def story(hypervisor: Hypervisor) -> None:
        for _ in range(2):
            await hypervisor.start(config)
        assert len(await hypervisor.guests()) == 1
        for _ in range(2):
            await hypervisor.set_cpus(config.name, 0.5)
        for _ in range(2):
            await hypervisor.destroy(config.name)
        assert list(await hypervisor.guests()) == []

    play(opened, story)


def test_a_name_is_one_guests(opened: Open, config: GuestConfig) -> None:
    other = replace(config, uuid="6a1f4c1e-3a35-4c57-9b3c-1f6b0a5f0c02")

    async def story(hypervisor: Hypervisor) -> None:
        await hypervisor.start(config)
        with pytest.raises(HypervisorError, match="another domain"):
            await hypervisor.start(other)
        (guest,) = await hypervisor.guests()
        assert guest.uuid == config.uuid

    play(opened, story)


def test_a_shutdown_ends_in_no_guest(opened: Open, config: GuestConfig) -> None:
    async def story(hypervisor: Hypervisor) -> None:
        await hypervisor.start(config)
        await hypervisor.shutdown(config.name)
        async with asyncio.timeout(10):
            while await hypervisor.guests():  # noqa: ASYNC110 (the protocol has no such wait)
                await asyncio.sleep(0.01)

    play(opened, story)


def test_a_suspended_guest_stands_still_until_it_is_resumed(
    opened: Open, config: GuestConfig
) -> None:
    async def story(hypervisor: Hypervisor) -> None:
        await hypervisor.start(config)
        hints = hypervisor.hints()
        for call, state in (
            (hypervisor.suspend, GuestState.PAUSED),
            (hypervisor.resume, GuestState.RUNNING),
        ):
            for _ in range(2):
                await call(config.name)
            (guest,) = await hypervisor.guests()
            assert guest.state is state
        assert await details_until(hints, "resumed") != []
        await hypervisor.destroy(config.name)
        for call in (hypervisor.suspend, hypervisor.resume):
            with pytest.raises(HypervisorError):
                await call(config.name)

    play(opened, story)


def test_what_is_absent(opened: Open, config: GuestConfig) -> None:
    async def story(hypervisor: Hypervisor) -> None:
        await hypervisor.destroy(config.name)
        with pytest.raises(HypervisorError):
            await hypervisor.set_cpus(config.name, 1.0)
        await hypervisor.shutdown(config.name)  # it may have ended while we came to ask
        with pytest.raises(GuestError):
            await hypervisor.agent(config.name, "guest-ping", {}, 1)

    play(opened, story)


def test_hints_begin_with_the_call_and_tell_a_life(opened: Open, config: GuestConfig) -> None:
    async def story(hypervisor: Hypervisor) -> None:
        hints = hypervisor.hints()
        await hypervisor.start(config)
        await hypervisor.destroy(config.name)
        seen = await details_until(hints, "destroyed")
        assert "started" in seen

    play(opened, story)


def test_another_owners_domain_is_neither_seen_nor_touched(
    test_driver: None, tmp_path: Path, config: GuestConfig
) -> None:
    async def story() -> None:
        ours, theirs = libvirt_driver(tmp_path), libvirt_driver(tmp_path, THEIRS)
        await ours.start(config)
        assert list(await theirs.guests()) == []
        for call in (theirs.destroy(config.name), theirs.set_cpus(config.name, 1.0)):
            with pytest.raises(HypervisorError, match="does not belong"):
                await call
        assert len(await ours.guests()) == 1
        await ours.destroy(config.name)
        await ours.close()
        await theirs.close()

    asyncio.run(story())


def test_a_domain_with_our_prefix_and_no_metadata_is_reported_and_kept(
    test_driver: None, tmp_path: Path
) -> None:
    name = f"{OURS.short}-stray"
    text = (
        f"<domain type='test'><name>{name}</name><memory>1024</memory>"
        "<os><type>hvm</type></os></domain>"
    )

    async def story() -> None:
        ours = libvirt_driver(tmp_path)
        connection = libvirt.open("test:///default")
        domain = connection.createXML(text, 0)
        (guest,) = await ours.guests()
        assert (guest.name, guest.identity) == (name, None)
        with pytest.raises(HypervisorError, match="does not belong"):
            await ours.destroy(name)
        assert domain.isActive()
        domain.destroy()
        connection.close()
        await ours.close()

    asyncio.run(story())


def test_an_unreachable_libvirtd_is_said_so(tmp_path: Path) -> None:
    async def story() -> None:
        probe = AccelerationProbe(tmp_path / "acceleration.json", no_kernel)
        uri = f"qemu:///system?socket={tmp_path}/none"
        hypervisor = LibvirtHypervisor(
            uri, OURS, "tcg", probe, directory=tmp_path, clock=SystemClock()
        )
        with pytest.raises(HypervisorError) as caught:
            await hypervisor.guests()
        assert caught.value.retryable
        assert "Start libvirtd" in caught.value.hint
        await hypervisor.close()

    asyncio.run(story())


def test_saves_hold_up_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lasts until a guest's memory is written, and libvirt takes five calls at once."""
    under_way, over = threading.Semaphore(0), threading.Event()

    def save(*_: object) -> bool:
        under_way.release()
        return over.wait(20)

    monkeypatch.setattr(domains, "save", save)

    async def story() -> None:
        hypervisor = libvirt_driver(tmp_path)
        saves = [
            asyncio.create_task(hypervisor.save(f"guest-{number}", tmp_path / "ram"))
            for number in range(CALLS_AT_ONCE)
        ]
        for _ in saves:
            await asyncio.to_thread(under_way.acquire)
        try:
            async with asyncio.timeout(10):
                await hypervisor.guests()
        finally:
            over.set()
        await asyncio.gather(*saves)
        await hypervisor.close()

    asyncio.run(story())
