"""What the kernel's files say of a QEMU, both kinds of control groups, and a process that ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmorch.hypervisor.procfs import GuestProcess
from vmorch.model.counters import MemoryWeight

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    directory = tmp_path / "proc" / "42"
    directory.mkdir(parents=True)
    numbers = " ".join(["S", *map(str, range(1, 11)), str(3 * TICKS), str(TICKS), "0", "0"])
    (directory / "stat").write_text(f"42 (qemu) -x ()) {numbers}")
    (directory / "statm").write_text("1000 25 3 1 0 0 0")
    (directory / "io").write_text("rchar: 9\nread_bytes: 4096\nwrite_bytes: 8192\n")
    (directory / "smaps_rollup").write_text(
        "55-7f ---p 00000000 00:00 0    [rollup]\nRss:  900 kB\nPss:  300 kB\n"
        "Pss_Anon:  1 kB\nShared_Clean:  20 kB\nShared_Dirty:  5 kB\n"
    )
    return tmp_path / "proc"


def opened(proc: Path) -> GuestProcess:
    return GuestProcess(42, proc=proc, cgroups=proc.parent / "cgroup")


def group(proc: Path, membership: str, directory: str, text: str) -> None:
    (proc / "42" / "cgroup").write_text(membership)
    place = proc.parent / "cgroup" / directory
    place.mkdir(parents=True)
    (place / "cpu.stat").write_text(text)


def test_processor_time_memory_and_storage(proc: Path) -> None:
    process = opened(proc)
    assert process.cpu_seconds() == 4.0
    assert process.rss_bytes() == 25 * os.sysconf("SC_PAGE_SIZE")
    assert process.storage_bytes() == (4096, 8192)
    assert process.weight() == MemoryWeight(pss_bytes=300 * 1024, shared_bytes=25 * 1024)


def test_throttling_is_read_above_the_emulators_group_v1(proc: Path) -> None:
    group(
        proc,
        "9:pids:/else\n3:cpu,cpuacct:/machine/qemu-1-x.libvirt-qemu/emulator\n1:name=systemd:/\n",
        "cpu,cpuacct/machine/qemu-1-x.libvirt-qemu",
        "nr_periods 4\nnr_throttled 2\nthrottled_time 1500000000\n",
    )
    assert opened(proc).throttled_seconds() == 1.5


def test_throttling_v2(proc: Path) -> None:
    group(
        proc,
        "0::/machine.slice/machine-qemu.scope/libvirt/emulator\n",
        "machine.slice/machine-qemu.scope/libvirt",
        "usage_usec 7\nthrottled_usec 250000\n",
    )
    assert opened(proc).throttled_seconds() == 0.25


def test_a_process_that_has_ended_is_unknown_and_not_idle(proc: Path) -> None:
    process = GuestProcess(43, proc=proc, cgroups=proc)
    assert process.cpu_seconds() is None
    assert process.rss_bytes() is None
    assert process.storage_bytes() == (None, None)
    assert process.throttled_seconds() is None
    assert process.weight() is None


def test_this_very_process() -> None:
    process = GuestProcess(os.getpid())
    assert process.cpu_seconds() is not None
    weight, rss = process.weight(), process.rss_bytes()
    assert weight is not None
    assert rss is not None
    assert 0 < weight.pss_bytes < 2 * rss
