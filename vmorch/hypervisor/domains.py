"""What is done to libvirt's domains, blocking. Runs in the threads of a connection."""

from __future__ import annotations

import contextlib
import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path

import libvirt

from vmorch.durable import sync
from vmorch.errors import HypervisorError
from vmorch.hypervisor.failures import is_absent
from vmorch.hypervisor.metadata import NAMESPACE, parse_identity
from vmorch.hypervisor.platform import (
    QUOTA_PERIOD_MICROSECONDS,
    Platform,
    cpu_quota_microseconds,
    memory_limit_bytes,
)
from vmorch.hypervisor.protocol import (
    GuestConfig,
    GuestIdentity,
    GuestLimits,
    GuestState,
    GuestVolume,
    ObservedGuest,
)
from vmorch.hypervisor.saved_state import read_saved_state
from vmorch.hypervisor.xml import LAYOUT_VERSION, TCG_CPU, volume_xml
from vmorch.model.guest import Acceleration
from vmorch.model.names import Installation

_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: GuestState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: GuestState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: GuestState.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: GuestState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: GuestState.SHUTTING_DOWN,
    libvirt.VIR_DOMAIN_CRASHED: GuestState.CRASHED,
}
_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
# Neither asks QEMU itself: the call would wait as long as one of them is hung. CPU_TOTAL does.
_SEEN = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_INTERFACE


def guest_state(state: int, reason: int) -> GuestState:
    if (state, reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_CRASHED):
        return GuestState.CRASHED
    return _STATES.get(state, GuestState.OFF)


def observe(connection: libvirt.virConnect, installation: Installation) -> list[ObservedGuest]:
    """Our guests, by one bulk call and one look at the metadata of each that bears our prefix."""
    found = []
    for domain, stats in connection.getAllDomainStats(_SEEN, 0):
        name = domain.name()
        if not name.startswith(f"{installation.short}-"):
            continue
        try:
            identity = identity_of(domain)
            nanoseconds = domain.info()[4]
        except libvirt.libvirtError as error:
            if is_absent(error):
                continue
            raise
        if identity is None or identity.owner == installation.id:
            state = guest_state(stats["state.state"], stats["state.reason"])
            found.append(
                ObservedGuest(
                    name=name,
                    uuid=domain.UUIDString(),
                    identity=identity,
                    state=state,
                    cpu_seconds=nanoseconds / 1e9,
                    sent_packets=stats.get("net.0.tx.pkts", 0),
                )
            )
    return found


def identity_of(domain: libvirt.virDomain) -> GuestIdentity | None:
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return None
        raise
    return parse_identity(text)


def ours(
    connection: libvirt.virConnect, name: str, installation: Installation
) -> libvirt.virDomain:
    """The domain of that name, which must bear our owner: nothing else is ever touched."""
    domain = connection.lookupByName(name)
    identity = identity_of(domain)
    if identity is None or identity.owner != installation.id:
        raise HypervisorError(
            f"The domain {name} does not belong to this installation, so it is left alone.",
            hint=f"See 'virsh dumpxml {name}'; remove it with virsh if it is a left-over.",
        )
    return domain


def existing(connection: libvirt.virConnect, name: str, uuid: str) -> libvirt.virDomain | None:
    """The domain of that name and UUID, if it is there and alive.

    Raises:
        HypervisorError: another one has its name, or it has ended and is kept.
    """
    try:
        domain = connection.lookupByName(name)
        state = guest_state(*domain.state())
    except libvirt.libvirtError as error:
        if is_absent(error):
            return None
        raise
    if domain.UUIDString() != uuid:
        raise HypervisorError(
            f"There is another domain with the name {name}.",
            hint=f"See 'virsh dumpxml {name}'.",
        )
    if state in (GuestState.CRASHED, GuestState.OFF):
        raise HypervisorError(
            f"The guest {name} has ended ({state}) and must be removed first.",
            hint="The next cycle does so.",
            retryable=True,
        )
    return domain


def create(connection: libvirt.virConnect, document: str) -> libvirt.virDomain:
    flags = libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_VALIDATE
    return connection.createXML(document, flags)


def fingerprint(connection: libvirt.virConnect, platform: Platform) -> str:
    parts = {
        "qemu": connection.getVersion(),
        "libvirt": connection.getLibVersion(),
        "kernel": os.uname().release,
        "machine": platform.machine,
        "cpu": _cpu(connection, platform),
        "acceleration": platform.acceleration.value,
        "layout": LAYOUT_VERSION,
    }
    return json.dumps(parts, sort_keys=True)


def _cpu(connection: libvirt.virConnect, platform: Platform) -> str:
    """What `cpu` in xml.py comes to on this host."""
    if platform.acceleration is Acceleration.TCG:
        return TCG_CPU
    text = connection.getDomainCapabilities(None, "x86_64", platform.machine, "kvm")
    model = ET.fromstring(text).find("cpu/mode[@name='host-model']")
    return "" if model is None else ET.canonicalize(ET.tostring(model, encoding="unicode"))


def save(connection: libvirt.virConnect, name: str, installation: Installation, path: Path) -> bool:
    """Whether it is saved now; if not, it is just being saved, as by a daemon that has ended.

    Raises:
        HypervisorError: it has ended, and was not saved.
    """
    try:
        domain = ours(connection, name, installation)
        if _is_being_saved(domain):
            return False
        # Of an earlier life: should the guest end before it is saved, it is not that.
        path.unlink(missing_ok=True)
        _save(domain, path)
    except libvirt.libvirtError as error:
        if not is_absent(error):
            raise
        _check_saved(path)
    os.chown(path, 0, 0)
    path.chmod(0o600)
    sync(path)
    sync(path.parent)
    return True


def _save(domain: libvirt.virDomain, path: Path) -> None:
    try:
        domain.saveFlags(str(path), None, 0)
    except libvirt.libvirtError:
        with contextlib.suppress(libvirt.libvirtError):
            # A save that outlives the connection it was asked for on may still come to its end.
            if not _is_being_saved(domain):
                path.unlink(missing_ok=True)
        raise


def _is_being_saved(domain: libvirt.virDomain) -> bool:
    return tuple(domain.state()) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE)


def _check_saved(path: Path) -> None:
    try:
        read_saved_state(path)
    except HypervisorError:
        path.unlink(missing_ok=True)
        raise


def restore(
    connection: libvirt.virConnect, name: str, saved: Path, document: str | None
) -> libvirt.virDomain:
    """The guest of a saved state, paused; described by `document`, or as the state says."""
    connection.restoreFlags(str(saved), document, libvirt.VIR_DOMAIN_SAVE_PAUSED)
    return connection.lookupByName(name)


def plug_volumes(domain: libvirt.virDomain, volumes: Sequence[GuestVolume]) -> None:
    """Into a paused fork, which finds them as it goes on. If that fails there is no guest."""
    with ended_on_failure(domain):
        for number, volume in enumerate(volumes):
            domain.attachDeviceFlags(volume_xml(number, volume), _LIVE)


def raise_link(domain: libvirt.virDomain) -> None:
    nic = ET.fromstring(domain.XMLDesc()).find("devices/interface")
    if nic is None:
        raise HypervisorError(f"The guest {domain.name()} has no NIC.")
    link = nic.find("link")
    if link is None or link.get("state") != "down":
        return
    link.set("state", "up")
    domain.updateDeviceFlags(ET.tostring(nic, encoding="unicode"), _LIVE)


def is_paused(domain: libvirt.virDomain) -> bool:
    return guest_state(*domain.state()) is GuestState.PAUSED


def is_unreleased(domain: libvirt.virDomain) -> bool:
    """Whether it has not run yet. One whose disk failed has: that too stands still."""
    state, reason = domain.state()
    ran = (state, reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)
    return guest_state(state, reason) is GuestState.PAUSED and not ran


def release(domain: libvirt.virDomain, config: GuestConfig, acceleration: Acceleration) -> None:
    """Set a paused guest's limits, then let it run. If that fails there is no guest."""
    limits = GuestLimits(
        cpus=config.boot_cpus, vcpus=config.vcpus, memory_bytes=config.memory_bytes
    )
    with ended_on_failure(domain):
        limit(domain, limits, acceleration)
        domain.resume()


@contextlib.contextmanager
def ended_on_failure(domain: libvirt.virDomain) -> Iterator[None]:
    """What fails inside leaves no guest."""
    try:
        yield
    except libvirt.libvirtError:
        with contextlib.suppress(libvirt.libvirtError):
            domain.destroy()
        raise


def limit(domain: libvirt.virDomain, limits: GuestLimits, acceleration: Acceleration) -> None:
    memory_bytes = memory_limit_bytes(
        memory_bytes=limits.memory_bytes, vcpus=limits.vcpus, acceleration=acceleration
    )
    limit_cpus(domain, limits.cpus)
    domain.setMemoryParameters({"hard_limit": -(-memory_bytes // 1024)}, _LIVE)


def suspend(domain: libvirt.virDomain) -> None:
    if guest_state(*domain.state()) is GuestState.RUNNING:
        domain.suspend()


def resume(domain: libvirt.virDomain) -> None:
    if is_paused(domain):
        domain.resume()


def limit_cpus(domain: libvirt.virDomain, cpus: float) -> None:
    """Cap vCPUs, emulator and I/O threads together: the quota per vCPU would let QEMU's own
    threads use any number of cores beside it."""
    quota = cpu_quota_microseconds(cpus)
    domain.setSchedulerParametersFlags(
        {"global_period": QUOTA_PERIOD_MICROSECONDS, "global_quota": quota}, _LIVE
    )


def ask_agent_to_power_off(domain: libvirt.virDomain) -> None:
    domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)


def press_power_button(domain: libvirt.virDomain) -> None:
    domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)


def console_path(domain: libvirt.virDomain) -> str:
    """The pseudo terminal that QEMU made for the first serial port, as the live XML names it."""
    device = ET.fromstring(domain.XMLDesc()).find("devices/console[@type='pty']/source")
    path = device.get("path") if device is not None else None
    if not path:
        raise HypervisorError(f"The guest {domain.name()} has no console now.")
    return path
