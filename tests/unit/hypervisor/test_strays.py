"""QEMU processes that libvirt does not know are ended, and no others. libvirt's own test driver
stands for the host's libvirt."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import libvirt
import psutil
import pytest

from vmorch.hypervisor.strays import end_strays

PREFIX = "5717a7-"
DOMAIN = (
    "<domain type='test'><name>{}</name><memory>4096</memory><os><type>hvm</type></os></domain>"
)


@pytest.fixture
def start() -> Iterator[Callable[..., psutil.Process]]:
    started: list[subprocess.Popen[bytes]] = []

    def call(name: str, program: str = "qemu-system-x86_64") -> psutil.Process:
        words = [program, "-c", "read forever", "sh", "-name", f"guest={name},debug-threads=on"]
        process = subprocess.Popen(words, executable="/bin/sh", stdin=subprocess.PIPE)
        started.append(process)
        return psutil.Process(process.pid)

    yield call
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def connection() -> Iterator[libvirt.virConnect]:
    opened = libvirt.open("test:///default")
    yield opened
    opened.close()


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_only_ours_that_no_domain_stands_for_are_ended(
    start: Callable[..., psutil.Process], connection: libvirt.virConnect
) -> None:
    stray = start(f"{PREFIX}shop-web-1")
    known = start(f"{PREFIX}shop-web-2")
    others = start("999999-shop-web-1")
    no_guest = start(f"{PREFIX}shop-web-1", program="vim")
    connection.createXML(DOMAIN.format(f"{PREFIX}shop-web-2"))
    end_strays(connection, PREFIX)
    assert [alive(p) for p in (stray, known, others, no_guest)] == [False, True, True, True]
