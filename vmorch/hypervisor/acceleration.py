"""Whether KVM can be used here, found out by booting a kernel.

`/dev/kvm`, its API version and libvirt's capabilities all may be there on a machine whose KVM
runs firmware and then hangs in every ordinary kernel (nested in some clouds). Only a real
kernel that reaches user space proves that it works.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from vmorch.errors import HypervisorError, Refused, VmorchError
from vmorch.hypervisor.initramfs import find_busybox, initramfs
from vmorch.model.guest import Acceleration, AccelerationChoice

QEMU = "qemu-system-x86_64"
PROBE_SECONDS = 8.0
_KVM = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MARKER = b"vmorch-probe-reached-user-space"
_INIT = f"/bin/busybox echo {_MARKER.decode()}\nexec /bin/busybox poweroff -f\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`usable` holds for one kernel, QEMU and CPU model: those of `key`. `reason` is a clause."""

    key: str
    usable: bool
    reason: str


class AccelerationProbe:
    """Decides between KVM and TCG, once per process and, by its file, once per host.

    `kernel` gives a Linux kernel to boot; it is asked only when there is no verdict yet.
    """

    def __init__(
        self,
        cache_file: Path,
        kernel: Callable[[], Awaitable[Path]],
        *,
        qemu: str = QEMU,
        device: Path = _KVM,
        timeout_seconds: float = PROBE_SECONDS,
    ) -> None:
        self._cache_file = cache_file
        self._kernel = kernel
        self._qemu = qemu
        self._device = device
        self._timeout_seconds = timeout_seconds
        self._lock = asyncio.Lock()

    async def acceleration(self, wanted: str) -> AccelerationChoice:
        """What guests run under when the settings say `wanted` (auto, kvm or tcg).

        Raises:
            Refused: `wanted` is kvm, and a kernel does not run under it.
        """
        if wanted == "tcg":
            return AccelerationChoice(
                acceleration=Acceleration.TCG, reason="the settings say accel = tcg"
            )
        verdict = await self.verdict()
        if verdict.usable or wanted == "auto":
            found = Acceleration.KVM if verdict.usable else Acceleration.TCG
            return AccelerationChoice(acceleration=found, reason=verdict.reason)
        raise Refused(
            f"KVM was asked for and cannot be used here: {verdict.reason}.",
            hint='Set accel = "auto" or "tcg" (slower), or enable (nested) virtualisation; '
            f"to try again after a change, remove {self._cache_file}.",
        )

    async def verdict(self) -> Verdict:
        """The verdict on KVM, from the file when it was reached under the same conditions."""
        async with self._lock:
            # Not kept in the file: it is cheap to see, and changes without a new kernel.
            if not os.access(self._device, os.R_OK | os.W_OK):
                return Verdict(key="", usable=False, reason=f"{self._device} cannot be opened")
            key = await self._conditions()
            known = await asyncio.to_thread(self._load)
            if known is not None and known.key == key:
                return known
            try:
                kernel = await self._kernel()
            except VmorchError as error:
                # Slow and right beats not at all; the next start asks again.
                return Verdict(
                    key="", usable=False, reason=f"no kernel to try it with: {error.message}"
                )
            usable, reason = await self._boot(kernel)
            verdict = Verdict(key=key, usable=usable, reason=reason)
            await asyncio.to_thread(self._save, verdict)
            return verdict

    async def _conditions(self) -> str:
        process = await self._spawn("--version")
        output, _ = await process.communicate()
        qemu = output.decode(errors="replace").partition("\n")[0]
        # And the boot: a host that was too busy for the try is tried again after the next one.
        boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
        cpu = await asyncio.to_thread(_cpu_model)
        return " | ".join((os.uname().release, boot, qemu, cpu))

    async def _boot(self, kernel: Path) -> tuple[bool, str]:
        """Boot `kernel` under KVM; whether it reached user space, and a clause that says so."""
        with tempfile.TemporaryDirectory(prefix="vmorch-probe-") as directory:
            archive = Path(directory) / "initramfs"
            await asyncio.to_thread(_write_initramfs, archive)
            process = await self._spawn(*_arguments(kernel, archive))
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    output, _ = await process.communicate()
            except TimeoutError:
                return False, (
                    f"a kernel did not reach user space within {self._timeout_seconds:g} s"
                )
            finally:
                await _end(process)
        if _MARKER in output:
            return True, "a kernel reached user space"
        lines = output.decode(errors="replace").strip().splitlines()
        return False, f"QEMU ended before user space ({lines[-1] if lines else 'silently'})"

    async def _spawn(self, *arguments: str) -> asyncio.subprocess.Process:
        if shutil.which(self._qemu) is None:
            raise HypervisorError(
                f"{self._qemu} is not installed.", hint="Run script/bootstrap, or install QEMU."
            )
        return await asyncio.create_subprocess_exec(
            self._qemu,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    def _load(self) -> Verdict | None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Verdict(**json.loads(self._cache_file.read_text()))
        return None

    def _save(self, verdict: Verdict) -> None:
        self._cache_file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._cache_file.with_suffix(".new")
        draft.write_text(json.dumps(asdict(verdict), indent=2) + "\n")
        draft.replace(self._cache_file)


def _arguments(kernel: Path, archive: Path) -> tuple[str, ...]:
    return (
        *("-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "192"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"),
        *("-kernel", str(kernel), "-initrd", str(archive)),
        *("-append", "console=ttyS0 quiet panic=-1"),
    )


def _write_initramfs(path: Path) -> None:
    busybox = find_busybox()
    if busybox is None:
        raise HypervisorError(
            "There is no static busybox at /bin/busybox to try KVM with.",
            hint="Install busybox-static, or set accel to tcg.",
        )
    path.write_bytes(initramfs(busybox=busybox.read_bytes(), init=_INIT))


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return os.uname().machine


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
