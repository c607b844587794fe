"""The bulk call of counters, on connections that a test answers: the monitor is asked beside, and
memory is weighed beside."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from vmorch.hypervisor.counting import Counting
from vmorch.hypervisor.procfs import GuestProcess
from vmorch.hypervisor.views import CALLS_AT_ONCE, FRESH_SECONDS, STUCK_SECONDS
from vmorch.hypervisor.xml import BALLOON_PERIOD_SECONDS
from vmorch.model.counters import GuestCounters, MemoryWeight
from vmorch.model.names import Installation

OURS = Installation("abcdef" + "0" * 26)


class Domain:
    def __init__(self, name: str, number: int = 5) -> None:
        self._name = name
        self._number = number

    def name(self) -> str:
        return self._name

    def ID(self) -> int:
        return self._number

    def UUIDString(self) -> str:
        return f"uuid of {self._name}"


class Libvirtd:
    """Answers to both connections. `balloon` is what guests tell. The QEMUs in `stuck` (names)
    stand still until `go`: the first call that asks one hangs, the others pass over it."""

    def __init__(self, *domains: Domain) -> None:
        self.domains = list(domains)
        self.balloon: dict[str, int] = {"balloon.available": 1000, "balloon.usable": 400}
        self.stuck: set[str] = set()
        self.asked: list[str] = []
        self.busy: set[str] = set()
        self.go = threading.Event()

    def getAllDomainStats(self, groups: int, flags: int) -> list[tuple[Domain, dict[str, Any]]]:
        assert not groups & libvirt.VIR_DOMAIN_STATS_CPU_TOTAL, "it asks QEMU's monitor"
        assert not groups & libvirt.VIR_DOMAIN_STATS_BALLOON, "it asks QEMU's monitor"
        return [(domain, {"net.0.rx.bytes": 7}) for domain in self.domains]

    def listAllDomains(self) -> list[Domain]:
        return list(self.domains)

    def domainListGetStats(
        self, domains: list[Domain], groups: int, flags: int
    ) -> list[tuple[Domain, dict[str, Any]]]:
        assert flags & libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        self.asked.append(",".join(domain.name() for domain in domains))
        return [(domain, self._told(domain.name())) for domain in domains]

    def _told(self, name: str) -> dict[str, int]:
        if name in self.busy:
            return {}
        if name in self.stuck:
            self.busy.add(name)
            self.go.wait(10)
        return dict(self.balloon)


class Connection:
    def __init__(self, libvirtd: Libvirtd) -> None:
        self._libvirtd = libvirtd

    async def call(self, doing: str, work: Callable[[Any], Any]) -> Any:
        return await asyncio.to_thread(work, self._libvirtd)

    async def close(self) -> None: ...


def counting(libvirtd: Libvirtd, directory: Path) -> Counting:
    connection: Any = Connection(libvirtd)
    return Counting(connection, connection, OURS, pid_files=directory)


async def settled(one: Counting, left: int = 0) -> None:
    """Until no more than `left` calls are under way."""
    while len(asked := one._views._asked) > left:
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)


def test_ours_by_uuid_and_what_the_guest_says_of_its_memory(tmp_path: Path) -> None:
    libvirtd = Libvirtd(Domain("abcdef-shop-web-1"), Domain("somebodys"))

    async def story() -> None:
        one = counting(libvirtd, tmp_path)
        (counters,) = (await one.count()).values()
        assert (counters.life, counters.received_bytes, counters.cpu_seconds) == (5, 7, None)
        await settled(one)
        ((uuid, counters),) = (await one.count()).items()
        assert uuid == "uuid of abcdef-shop-web-1"
        assert (counters.used_bytes, counters.usable_bytes) == (600 * 1024, 1000 * 1024)
        await one.close()

    asyncio.run(story())
    assert libvirtd.asked == ["abcdef-shop-web-1"], "once in a period, and of nobody else's guest"


class Beside:
    """Three guests and the time of the loop, which a test moves on."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.libvirtd = Libvirtd(*(Domain(f"abcdef-shop-web-{n}", n) for n in (1, 2, 3)))
        self.counting = counting(self.libvirtd, directory)
        self.now = 0.0
        patch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)

    async def used(self, *, hanging: int = 0) -> list[int | None]:
        """What each of them uses, once every call but `hanging` has answered."""
        await self.counting.count()
        await settled(self.counting, hanging)
        found = await self.counting.count()
        return [counters.used_bytes for counters in found.values()]


def beside(
    directory: Path, patch: pytest.MonkeyPatch, story: Callable[[Beside], Awaitable[None]]
) -> None:
    async def life() -> None:
        with patch.context() as loop_patch:
            one = Beside(directory, loop_patch)
            try:
                await story(one)
            finally:
                one.libvirtd.go.set()
                await settled(one.counting)
                await one.counting.close()

    asyncio.run(life())


def test_a_qemu_that_stands_still_leaves_all_others_their_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(one: Beside) -> None:
        assert None not in await one.used()
        one.libvirtd.stuck = {"abcdef-shop-web-2"}
        one.now = BALLOON_PERIOD_SECONDS
        assert None not in await one.used(hanging=1)
        calls = len(one.libvirtd.asked)
        one.now += STUCK_SECONDS - 1
        await one.used(hanging=1)
        assert len(one.libvirtd.asked) == calls, "it is waited for"
        one.libvirtd.balloon["balloon.usable"] = 300
        while one.now < 2 * FRESH_SECONDS:
            one.now += BALLOON_PERIOD_SECONDS
            first, second, third = await one.used(hanging=1)
            assert None not in (first, third)
        assert (first, second, third) == (700 * 1024, None, 700 * 1024)

    beside(tmp_path, monkeypatch, story)


def test_no_more_than_a_few_calls_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(one: Beside) -> None:
        names = [f"abcdef-shop-web-{n}" for n in range(1, 9)]
        one.libvirtd.domains = [Domain(name, n) for n, name in enumerate(names)]
        one.libvirtd.stuck = set(names)
        for _ in range(20):
            one.now += STUCK_SECONDS
            await one.counting.count()
        assert len(one.counting._views._asked) == CALLS_AT_ONCE

    beside(tmp_path, monkeypatch, story)


def test_who_is_passed_over_keeps_the_view_that_it_had_while_it_is_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(one: Beside) -> None:
        await one.used()
        one.libvirtd.busy = {"abcdef-shop-web-1"}
        one.now = FRESH_SECONDS - 1
        assert None not in await one.used()
        one.now = FRESH_SECONDS + 1
        first, *others = await one.used()
        assert first is None
        assert None not in others

    beside(tmp_path, monkeypatch, story)


def test_an_answer_that_comes_late_replaces_no_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(one: Beside) -> None:
        one.libvirtd.stuck = {"abcdef-shop-web-3"}
        await one.used(hanging=1)
        one.libvirtd.balloon = {"balloon.available": 1000, "balloon.usable": 300}
        one.now = STUCK_SECONDS
        assert (await one.used(hanging=1))[0] == 700 * 1024
        one.libvirtd.go.set()
        await settled(one.counting)
        found = (await one.counting.count()).values()
        assert next(iter(found)).used_bytes == 700 * 1024

    beside(tmp_path, monkeypatch, story)


def test_a_view_goes_with_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(one: Beside) -> None:
        assert None not in await one.used()
        one.libvirtd.domains[0] = Domain("abcdef-shop-web-1", 9)
        first, *others = await one.used()
        assert first is None
        assert None not in others

    beside(tmp_path, monkeypatch, story)


def test_a_guest_that_has_told_nothing_yet(tmp_path: Path) -> None:
    libvirtd = Libvirtd(Domain("abcdef-shop-web-1"))
    libvirtd.balloon = {"balloon.current": 1000}

    async def story() -> None:
        one = counting(libvirtd, tmp_path)
        await one.count()
        await settled(one)
        (counters,) = (await one.count()).values()
        assert counters.used_bytes is None
        await one.close()

    asyncio.run(story())


def test_the_process_is_found_by_libvirts_file_and_anew_for_a_new_life(tmp_path: Path) -> None:
    domain = Domain("abcdef-shop-web-1")
    libvirtd = Libvirtd(domain)
    pid_file = tmp_path / "abcdef-shop-web-1.pid"

    async def story() -> None:
        one = counting(libvirtd, tmp_path)
        assert [c.rss_bytes for c in (await one.count()).values()] == [None]
        pid_file.write_text("1")  # it was not there yet
        (first,) = (await one.count()).values()
        assert first.rss_bytes is not None
        pid_file.write_text("999999999")
        assert [c.rss_bytes for c in (await one.count()).values()] != [None]
        domain._number = 6
        assert [c.rss_bytes for c in (await one.count()).values()] == [None]
        await one.close()

    asyncio.run(story())


def test_weighing_holds_up_no_tick_and_a_late_weight_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libvirtd, go, weight = Libvirtd(Domain("abcdef-shop-web-1")), threading.Event(), MemoryWeight

    def slow(self: GuestProcess) -> MemoryWeight:
        go.wait(10)
        return weight(pss_bytes=5, shared_bytes=2)

    monkeypatch.setattr(GuestProcess, "weight", slow)
    (tmp_path / "abcdef-shop-web-1.pid").write_text("1")

    async def story() -> None:
        one = counting(libvirtd, tmp_path)
        began = time.monotonic()
        for _ in range(5):
            assert (await weighed(one)) is None
        assert time.monotonic() - began < 5, "it does not wait"
        go.set()
        assert one._weighing._under_way is not None
        await one._weighing._under_way
        assert await weighed(one) == weight(pss_bytes=5, shared_bytes=2)
        libvirtd.domains[0]._number = 6
        assert await weighed(one) is None
        await one.close()

    asyncio.run(story())


async def weighed(one: Counting) -> MemoryWeight | None:
    counters: GuestCounters
    (counters,) = (await one.count()).values()
    return counters.weight
