"""What the daemon asks of a hypervisor. `driver.py` answers with libvirt, `fake.py` in memory.

Every call either has happened when it returns or raises HypervisorError; all are safe to repeat.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vmorch.model.counters import GuestCounters
from vmorch.model.guest import AccelerationChoice
from vmorch.model.guest import GuestState as GuestState


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestIdentity:
    """Kept in the domain's metadata; the memory from which a daemon adopts running guests.

    `owner` is the whole installation id, `boot` the count of starts of this instance, `subnet`
    what its environment's guests see (empty in domains made before it was written down).
    """

    owner: str
    environment: str
    service: str
    ordinal: int
    revision: int
    image: str
    boot: int
    subnet: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestVolume:
    """A qcow2 disk of the guest's own that outlives it, found inside by its serial (20 bytes)."""

    path: Path
    serial: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestConfig:
    """Everything a domain is made from. Paths are absolute; the disks and log directories exist.

    `kernel` and `initrd` None: the system disk's own boot loader starts the guest.
    `cpus` is the cap (0.5 is half a core), `boot_cpus` what the guest may use until the cap is
    set by `set_cpus` (boot burst). There is room for four volumes. `linked`: its NIC is connected.
    """

    name: str
    uuid: str
    identity: GuestIdentity
    vcpus: int
    cpus: float
    boot_cpus: float
    memory_bytes: int
    kernel: Path | None
    initrd: Path | None
    command_line: str
    system_disk: Path
    seed_disk: Path
    mac: str
    bridge: str
    tap: str
    service_log: Path
    console_log: Path
    volumes: tuple[GuestVolume, ...] = ()
    linked: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLimits:
    """What a guest may use: `cpus` as in GuestConfig, and the RAM and vCPUs that it has."""

    cpus: float
    vcpus: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedGuest:
    """A domain that bears our owner (`identity` set), or one whose name begins with our short
    id though its metadata cannot be read (`identity` None): reported, never touched.

    `cpu_seconds` of processor time it has used, `sent_packets` it has sent since its start."""

    name: str
    uuid: str
    identity: GuestIdentity | None
    state: GuestState
    cpu_seconds: float = 0.0
    sent_packets: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestHint:
    """Something happened to a domain: look again. `detail` is libvirt's word for people, such as
    "crashed: panicked", "shutdown: guest", "destroyed", "stopped: qemu died"; `name` empty says
    that anything may have changed (libvirtd was lost, or found again)."""

    name: str
    detail: str


class Hypervisor(Protocol):
    async def acceleration(self) -> AccelerationChoice:
        """KVM or TCG, as forced by the settings or decided by booting a kernel; cached.

        Raises:
            Refused: KVM was forced and does not run a real kernel here.
        """
        ...

    async def guests(self) -> Sequence[ObservedGuest]: ...

    async def counters(self) -> Mapping[str, GuestCounters]:
        """What each guest has used, by uuid, in one call that waits for none of them. What a
        guest's memory weighs is told as it was within about the last minute."""
        ...

    async def start(self, config: GuestConfig) -> None:
        """Create the domain paused, set its limits live, then let it run. A domain of that name
        and uuid that is there already is left alone."""
        ...

    async def fingerprint(self) -> str:
        """Everything of this host that a saved state depends on: versions of QEMU, libvirt and
        the kernel, machine type, CPU, acceleration, device layout."""
        ...

    async def save(self, name: str, path: Path) -> None:
        """Save the guest's RAM to `path` (mode 0600, root's, on the disk), which ends the guest.
        When it fails, the guest is as it was and there is no file. A guest that is gone, with a
        finished file there, has been saved; one that is just being saved is waited for."""
        ...

    async def share(self, disk: Path) -> None:
        """Let every guest read the disk of a guest that has ended, and nobody write it. Others
        cannot read it."""
        ...

    async def wake(self, name: str, uuid: str, limits: GuestLimits, saved: Path) -> None:
        """Restore a guest from its own saved state, paused, with its limits set: from there
        `resume` lets it go on. One that is there already is kept, running or paused.

        Raises:
            HypervisorError: the saved state is another guest's, damaged, or does not fit this
                host; then there is no guest, and the saved one has not run. Or there is one, and
                its limits could not be set.
        """
        ...

    async def fork(self, config: GuestConfig, saved: Path) -> None:
        """Start the guest of `config` from a saved state of another one, with its limits set and
        its NIC's link down. `config.system_disk` is an overlay of the disk as it was then.

        Raises:
            HypervisorError: the saved state does not fit this host, is damaged, or is no such;
                then there is no guest.
        """
        ...

    async def raise_link(self, name: str) -> None:
        """Connect a fork's NIC. Connected already: fine."""
        ...

    async def set_cpus(self, name: str, cpus: float) -> None:
        """Set the whole domain's CPU cap, in cores."""
        ...

    async def suspend(self, name: str) -> None:
        """Stop a guest's vCPUs; its memory stays. Suspended already: fine."""
        ...

    async def resume(self, name: str) -> None:
        """Let a suspended guest run on. Running already: fine."""
        ...

    async def shutdown(self, name: str) -> None:
        """Ask the guest to power off (agent, else ACPI); returns at once."""
        ...

    async def destroy(self, name: str) -> None:
        """End the guest now. Absent already: fine."""
        ...

    async def agent(
        self, name: str, command: str, arguments: dict[str, Any], timeout_seconds: float
    ) -> Any:
        """One QEMU guest agent call; returns what is under "return".

        Raises:
            GuestError: the agent is not connected, said no, or did not answer in time.
        """
        ...

    async def open_console(self, name: str) -> int:
        """A descriptor of its own, for reading and writing, on the guest's serial console; the
        caller closes it.

        Raises:
            HypervisorError: there is no such guest, or its console cannot be opened.
        """
        ...

    def hints(self) -> AsyncIterator[GuestHint]:
        """libvirt's events. Hints only: truth is observed anew."""
        ...

    async def close(self) -> None: ...
