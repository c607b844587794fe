"""The bulk call of counters, on connections that a test answers: the monitor is asked beside."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt

from vmorch.hypervisor.counting import BALLOON_PERIOD_SECONDS, FRESH_SECONDS, Counting
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
    """Answers to both connections; `balloon` is what a guest tells, `stuck` holds its QEMU up."""

    def __init__(self, *domains: Domain) -> None:
        self.domains = list(domains)
        self.balloon: dict[str, int] = {"balloon.available": 1000, "balloon.usable": 400}
        self.asked: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def getAllDomainStats(self, groups: int, flags: int) -> list[tuple[Domain, dict[str, Any]]]:
        assert not groups & libvirt.VIR_DOMAIN_STATS_CPU_TOTAL, "it asks QEMU's monitor"
        assert not groups & libvirt.VIR_DOMAIN_STATS_BALLOON, "it asks QEMU's monitor"
        return [(domain, {"net.0.rx.bytes": 7}) for domain in self.domains]

    def listAllDomains(self) -> list[Domain]:
        return self.domains

    def domainListGetStats(
        self, domains: list[Domain], groups: int, flags: int
    ) -> list[tuple[Domain, dict[str, Any]]]:
        self.asked.append(",".join(domain.name() for domain in domains))
        self.go.wait(10)
        return [(domain, self.balloon) for domain in domains]


class Connection:
    def __init__(self, libvirtd: Libvirtd) -> None:
        self._libvirtd = libvirtd

    async def call(self, doing: str, work: Callable[[Any], Any]) -> Any:
        return await asyncio.to_thread(work, self._libvirtd)

    async def close(self) -> None: ...


def counting(libvirtd: Libvirtd, directory: Path) -> Counting:
    connection: Any = Connection(libvirtd)
    return Counting(connection, connection, OURS, pid_files=directory)


async def views_told(one: Counting) -> None:
    assert one._asked is not None
    await one._asked


def test_ours_by_uuid_and_what_the_guest_says_of_its_memory(tmp_path: Path) -> None:
    libvirtd = Libvirtd(Domain("abcdef-shop-web-1"), Domain("somebodys"))

    async def story() -> None:
        one = counting(libvirtd, tmp_path)
        (counters,) = (await one.count([])).values()
        assert (counters.life, counters.received_bytes, counters.cpu_seconds) == (5, 7, None)
        await views_told(one)
        ((uuid, counters),) = (await one.count([])).items()
        assert uuid == "uuid of abcdef-shop-web-1"
        assert (counters.used_bytes, counters.usable_bytes) == (600 * 1024, 1000 * 1024)
        await one.close()

    asyncio.run(story())
    assert libvirtd.asked == ["abcdef-shop-web-1"], "once in a period, and of nobody else's guest"


def test_a_qemu_that_stands_still_holds_up_no_tick_and_one_call(
    tmp_path: Path, monkeypatch: Any
) -> None:
    libvirtd = Libvirtd(Domain("abcdef-shop-web-1"))
    libvirtd.go.clear()

    async def story() -> None:
        one, now = counting(libvirtd, tmp_path), 0.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        for tick in range(5):
            now = tick * (BALLOON_PERIOD_SECONDS + 1.0)
            (counters,) = (await one.count([])).values()
            assert counters.used_bytes is None
        libvirtd.go.set()
        await views_told(one)
        assert len(libvirtd.asked) == 1

    asyncio.run(story())


def test_an_old_view_is_no_view(tmp_path: Path, monkeypatch: Any) -> None:
    libvirtd = Libvirtd(Domain("abcdef-shop-web-1"))

    async def story() -> None:
        one, now = counting(libvirtd, tmp_path), 0.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        await one.count([])
        await views_told(one)
        libvirtd.go.clear()
        now = FRESH_SECONDS - 1
        (fresh,) = (await one.count([])).values()
        assert fresh.used_bytes is not None
        now = FRESH_SECONDS + 1
        (stale,) = (await one.count([])).values()
        assert stale.used_bytes is None
        libvirtd.go.set()
        await views_told(one)

    asyncio.run(story())


def test_a_guest_that_has_told_nothing_yet(tmp_path: Path) -> None:
    libvirtd = Libvirtd(Domain("abcdef-shop-web-1"))
    libvirtd.balloon = {"balloon.current": 1000}

    async def story() -> None:
        one = counting(libvirtd, tmp_path)
        await one.count([])
        await views_told(one)
        (counters,) = (await one.count([])).values()
        assert counters.used_bytes is None
        await one.close()

    asyncio.run(story())


def test_the_process_is_found_by_libvirts_file_and_anew_for_a_new_life(tmp_path: Path) -> None:
    domain = Domain("abcdef-shop-web-1")
    libvirtd = Libvirtd(domain)
    pid_file = tmp_path / "abcdef-shop-web-1.pid"

    async def story() -> None:
        one = counting(libvirtd, tmp_path)
        assert [c.rss_bytes for c in (await one.count([])).values()] == [None]
        pid_file.write_text("1")  # it was not there yet
        (first,) = (await one.count([])).values()
        assert first.rss_bytes is not None
        assert first.weight is None
        pid_file.write_text("999999999")
        assert [c.rss_bytes for c in (await one.count([])).values()] != [None]
        domain._number = 6
        assert [c.rss_bytes for c in (await one.count([])).values()] == [None]
        await one.close()

    asyncio.run(story())
