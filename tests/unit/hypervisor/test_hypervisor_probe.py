"""The probe of KVM, with a QEMU that is a shell script."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from vmorch.errors import HypervisorError, Refused
from vmorch.hypervisor.acceleration import AccelerationProbe
from vmorch.hypervisor.initramfs import find_busybox, initramfs
from vmorch.model.guest import Acceleration, AccelerationChoice

VERSION = 'if [ "$1" = --version ]; then echo "QEMU emulator version $V"; exit; fi\n'
WORKS = "echo vmorch-probe-reached-user-space"
BREAKS = "echo 'kvm_buf_set_msrs: Assertion failed.'; exit 134"
HANGS = "exec sleep 600"


class Bench:
    """A probe on a host whose QEMU does what a script says; counts the boots."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.qemu = directory / "qemu"
        self.device = directory / "kvm"
        self.device.touch()
        self.kernels = 0

    def becomes(self, script: str, version: str = "7.2") -> None:
        self.qemu.write_text(f"#!/bin/sh\nV={version}\n{VERSION}{script}\n")
        self.qemu.chmod(0o755)

    async def _kernel(self) -> Path:
        self.kernels += 1
        return Path("/boot/vmlinuz")

    def chooses(self, wanted: str) -> AccelerationChoice:
        probe = AccelerationProbe(
            self.directory / "state" / "acceleration.json",
            self._kernel,
            qemu=str(self.qemu),
            device=self.device,
            timeout_seconds=0.5,
        )
        return asyncio.run(probe.acceleration(wanted))

    def decides(self, wanted: str) -> Acceleration:
        return self.chooses(wanted).acceleration


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    if find_busybox() is None:
        pytest.fail("install busybox-static")
    return Bench(tmp_path)


def test_a_kernel_that_reaches_user_space_decides_for_kvm(bench: Bench) -> None:
    bench.becomes(WORKS)
    assert bench.decides("auto") is Acceleration.KVM
    assert bench.decides("kvm") is Acceleration.KVM


@pytest.mark.parametrize("script", [BREAKS, HANGS])
def test_a_device_that_is_there_proves_nothing(bench: Bench, script: str) -> None:
    bench.becomes(script)
    assert bench.decides("auto") is Acceleration.TCG
    with pytest.raises(Refused) as caught:
        bench.decides("kvm")
    assert "accel" in caught.value.hint


def test_what_qemu_said_is_in_the_reason(bench: Bench) -> None:
    bench.becomes(BREAKS)
    assert "kvm_buf_set_msrs" in bench.chooses("auto").reason
    with pytest.raises(Refused, match="kvm_buf_set_msrs"):
        bench.decides("kvm")


def test_a_verdict_is_kept_until_the_host_changes(bench: Bench) -> None:
    bench.becomes(BREAKS)
    bench.decides("auto")
    bench.becomes(WORKS)
    assert bench.decides("auto") is Acceleration.TCG
    assert bench.kernels == 1
    bench.becomes(WORKS, version="8.0")
    assert bench.decides("auto") is Acceleration.KVM
    assert bench.kernels == 2


def test_a_damaged_verdict_is_reached_anew(bench: Bench) -> None:
    bench.becomes(WORKS)
    (bench.directory / "state").mkdir()
    (bench.directory / "state/acceleration.json").write_text('{"key": ')
    assert bench.decides("auto") is Acceleration.KVM


def test_forced_translation_tries_nothing(bench: Bench) -> None:
    bench.device.unlink()
    choice = bench.chooses("tcg")
    assert choice.acceleration is Acceleration.TCG
    assert "settings" in choice.reason
    assert bench.kernels == 0


def test_no_device_is_seen_at_once_and_not_remembered(bench: Bench) -> None:
    bench.becomes(WORKS)
    bench.device.unlink()
    assert bench.decides("auto") is Acceleration.TCG
    with pytest.raises(Refused, match="cannot be opened"):
        bench.decides("kvm")
    assert bench.kernels == 0
    bench.device.touch()
    assert bench.decides("auto") is Acceleration.KVM


def test_no_qemu_is_an_error_and_no_verdict(bench: Bench) -> None:
    with pytest.raises(HypervisorError, match="not installed"):
        bench.decides("auto")


def test_the_archive_is_one_that_cpio_reads(tmp_path: Path) -> None:
    archive = initramfs(busybox=b"\x7fELF odd length", init="exec true\n")
    busybox = find_busybox()
    assert busybox is not None
    subprocess.run(
        [busybox, "cpio", "-id", "bin/busybox", "init"], input=archive, cwd=tmp_path, check=True
    )
    assert (tmp_path / "bin/busybox").read_bytes() == b"\x7fELF odd length"
    assert (tmp_path / "init").read_text() == "#!/bin/busybox sh\nexec true\n"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755


def test_a_dynamic_busybox_is_none(tmp_path: Path) -> None:
    dynamic = tmp_path / "busybox"
    dynamic.write_bytes(b"\x7fELF /lib64/ld-linux-x86-64.so.2")
    assert find_busybox((dynamic, tmp_path / "absent")) is None
