"""The domain's XML: one small function for each part of the machine, all pure.

The layout is a promise: a saved guest can only be resumed with the very devices, addresses and
sizes that it was saved with. So every device has its place here, none is left to libvirt.

    bus 0  slot 1  four spare root ports (functions 0 to 3), for disks that come later
           slot 2  system disk        slot 6  NIC
           slot 3  seed               slot 7  RNG
           slot 4  spare disk 0       slot 8  balloon
           slot 5  spare disk 1       slot 9  virtio-serial: agent (1), service log (2)
    ISA    serial console, panic device
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from vmorch.hypervisor.metadata import identity_element
from vmorch.hypervisor.platform import MIB, TCG_CACHE_BYTES, Owner, Platform
from vmorch.hypervisor.protocol import GuestConfig, GuestVolume
from vmorch.model.guest import Acceleration

AGENT_CHANNEL = "org.qemu.guest_agent.0"
LOG_CHANNEL = "org.vmorch.log.0"
LAYOUT_VERSION = 1
"""Part of what a saved state depends on; raise it with any change to the devices."""
SPARE_PORTS = 4
BALLOON_PERIOD_SECONDS = 5

# x86-64-v2, and the newest model of which QEMU's translator knows every feature: nothing in it
# depends on the host, or on the version of QEMU as in "max". All models booted equally fast.
TCG_CPU = "Nehalem"

_SLOT_PORTS = 1
_SLOT_DISK = {"vda": 2, "vdb": 3, "vdc": 4, "vdd": 5}
_SLOT_NIC = 6
_SLOT_RNG = 7
_SLOT_BALLOON = 8
_SLOT_SERIAL = 9
# Modern virtio only: the directly attached default would keep I/O ports of the old one.
_VIRTIO = "virtio-non-transitional"


def domain_xml(config: GuestConfig, platform: Platform, spare_disk: Path) -> str:
    """The whole document. `spare_disk` is the blank file in the place of both spare disks.

    CPU and memory limits are not in it: they are set live, in a fork as in a cold guest, and
    because a memory limit in the document needs CAP_SYS_RESOURCE.
    """
    domain = ET.Element("domain", type=platform.domain_type)
    _text(domain, "name", config.name)
    _text(domain, "uuid", config.uuid)
    ET.SubElement(domain, "metadata").append(identity_element(config.identity))
    _add_memory(domain, config.memory_bytes)
    _text(domain, "vcpu", str(config.vcpus), placement="static")
    _add_boot(domain, config, platform.machine)
    _add_features(domain, platform.acceleration)
    _add_cpu(domain, platform.acceleration)
    _add_clock(domain)
    _add_life_cycle(domain)
    _add_devices(domain, config, spare_disk)
    if platform.owner is not None:
        _add_owner(domain, platform.owner)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def volume_xml(number: int, volume: GuestVolume) -> str:
    """The device to plug into a running guest, in the place where a cold one has it."""
    devices = ET.Element("devices")
    _add_volume(devices, number, volume)
    return ET.tostring(devices[0], encoding="unicode")


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _add_memory(domain: ET.Element, memory_bytes: int) -> None:
    mebibytes = -(-memory_bytes // MIB)
    _text(domain, "memory", str(mebibytes), unit="MiB")
    _text(domain, "currentMemory", str(mebibytes), unit="MiB")


def _add_boot(domain: ET.Element, config: GuestConfig, machine: str) -> None:
    os = ET.SubElement(domain, "os")
    _text(os, "type", "hvm", arch="x86_64", machine=machine)
    if config.kernel is None:
        ET.SubElement(os, "boot", dev="hd")
        return
    _text(os, "kernel", str(config.kernel))
    _text(os, "initrd", str(config.initrd))
    _text(os, "cmdline", config.command_line)


def _add_features(domain: ET.Element, acceleration: Acceleration) -> None:
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if acceleration is Acceleration.TCG:
        tcg = ET.SubElement(features, "tcg")
        _text(tcg, "tb-cache", str(TCG_CACHE_BYTES // MIB), unit="MiB")


def _add_cpu(domain: ET.Element, acceleration: Acceleration) -> None:
    if acceleration is Acceleration.KVM:
        ET.SubElement(domain, "cpu", mode="host-model", check="partial")
        return
    cpu = ET.SubElement(domain, "cpu", mode="custom", match="exact", check="none")
    _text(cpu, "model", TCG_CPU, fallback="forbid")


def _add_clock(domain: ET.Element) -> None:
    clock = ET.SubElement(domain, "clock", offset="utc")
    ET.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    ET.SubElement(clock, "timer", name="pit", tickpolicy="delay")
    ET.SubElement(clock, "timer", name="hpet", present="no")


def _add_life_cycle(domain: ET.Element) -> None:
    _text(domain, "on_poweroff", "destroy")
    _text(domain, "on_reboot", "restart")
    # A panicked guest stays, in the state "crashed": an event may be missed, a state is not.
    _text(domain, "on_crash", "preserve")
    power = ET.SubElement(domain, "pm")
    ET.SubElement(power, "suspend-to-mem", enabled="no")
    ET.SubElement(power, "suspend-to-disk", enabled="no")


def _add_owner(domain: ET.Element, owner: Owner) -> None:
    """QEMU's user, and that libvirt gives it nothing. By default libvirt hands over every file
    that a guest uses, kernel and all layers below its disk included, and leaves them there: an
    escaped guest could rewrite everybody's base. What a guest owns, files.py gives it."""
    label = ET.SubElement(domain, "seclabel", type="static", model="dac", relabel="no")
    _text(label, "label", f"+{owner.uid}:+{owner.gid}")


def _add_devices(domain: ET.Element, config: GuestConfig, spare_disk: Path) -> None:
    devices = ET.SubElement(domain, "devices")
    _add_controllers(devices)
    _add_system_disk(devices, config.system_disk)
    _add_seed(devices, config.seed_disk)
    _add_spare_disk(devices, "vdc", "vmorch-spare0", spare_disk)
    _add_spare_disk(devices, "vdd", "vmorch-spare1", spare_disk)
    for number, volume in enumerate(config.volumes):
        _add_volume(devices, number, volume)
    _add_nic(devices, config)
    _add_rng(devices)
    _add_balloon(devices)
    _add_channels(devices, config.service_log)
    _add_console(devices, config.console_log)
    _add_panic(devices)


def _place(device: ET.Element, slot: int, function: int = 0) -> ET.Element:
    address = ET.SubElement(device, "address", type="pci", domain="0x0000", bus="0x00")
    address.set("slot", f"0x{slot:02x}")
    address.set("function", f"0x{function:x}")
    return address


def _add_controllers(devices: ET.Element) -> None:
    ET.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
    for number in range(SPARE_PORTS):
        port = ET.SubElement(
            devices, "controller", type="pci", index=str(number + 1), model="pcie-root-port"
        )
        ET.SubElement(port, "target", chassis=str(number + 1), port=f"0x{8 + number:x}")
        address = _place(port, _SLOT_PORTS, number)
        if number == 0:
            address.set("multifunction", "on")
    ET.SubElement(devices, "controller", type="usb", index="0", model="none")
    serial = ET.SubElement(devices, "controller", type="virtio-serial", index="0", model=_VIRTIO)
    _place(serial, _SLOT_SERIAL)


def _disk(
    devices: ET.Element, target: str, serial: str, path: Path, driver: dict[str, str]
) -> ET.Element:
    """A virtio disk, cached as an ordinary file: guests of one image then
    share the pages of its layers; flushes of the guest are obeyed."""
    disk = ET.SubElement(devices, "disk", type="file", device="disk", model=_VIRTIO)
    ET.SubElement(disk, "driver", {"name": "qemu", "cache": "writeback", **driver})
    ET.SubElement(disk, "source", file=str(path))
    ET.SubElement(disk, "target", dev=target, bus="virtio")
    _text(disk, "serial", serial)
    if target in _SLOT_DISK:
        _place(disk, _SLOT_DISK[target])
    return disk


def _add_system_disk(devices: ET.Element, path: Path) -> None:
    driver = {"type": "qcow2", "discard": "unmap"}
    _disk(devices, "vda", "vmorch-system", path, driver)


def _add_seed(devices: ET.Element, path: Path) -> None:
    disk = _disk(devices, "vdb", "vmorch-seed", path, {"type": "raw"})
    ET.SubElement(disk, "readonly")


def _add_spare_disk(devices: ET.Element, target: str, serial: str, path: Path) -> None:
    disk = _disk(devices, target, serial, path, {"type": "raw"})
    ET.SubElement(disk, "readonly")


def _add_volume(devices: ET.Element, number: int, volume: GuestVolume) -> None:
    """In the spare root port of that number, where it could also be plugged in later."""
    driver = {"type": "qcow2", "discard": "unmap"}
    disk = _disk(devices, f"vd{'efgh'[number]}", volume.serial, volume.path, driver)
    _place(disk, 0).set("bus", f"0x{number + 1:02x}")


def _add_nic(devices: ET.Element, config: GuestConfig) -> None:
    nic = ET.SubElement(devices, "interface", type="bridge")
    ET.SubElement(nic, "mac", address=config.mac)
    ET.SubElement(nic, "source", bridge=config.bridge)
    ET.SubElement(nic, "target", dev=config.tap)
    ET.SubElement(nic, "model", type=_VIRTIO)
    ET.SubElement(nic, "link", state="up" if config.linked else "down")
    ET.SubElement(nic, "rom", enabled="no")  # the firmware shall not look for a network boot
    _place(nic, _SLOT_NIC)


def _add_rng(devices: ET.Element) -> None:
    rng = ET.SubElement(devices, "rng", model=_VIRTIO)
    _text(rng, "backend", "/dev/urandom", model="random")
    _place(rng, _SLOT_RNG)


def _add_balloon(devices: ET.Element) -> None:
    """Free pages go back to the host, which also keeps them out of a saved state."""
    balloon = ET.SubElement(
        devices, "memballoon", model=_VIRTIO, autodeflate="on", freePageReporting="on"
    )
    ET.SubElement(balloon, "stats", period=str(BALLOON_PERIOD_SECONDS))
    _place(balloon, _SLOT_BALLOON)


def _add_channels(devices: ET.Element, service_log: Path) -> None:
    agent = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(agent, "target", type="virtio", name=AGENT_CHANNEL)
    _serial_port(agent, 1)
    log = ET.SubElement(devices, "channel", type="file")
    ET.SubElement(log, "source", path=str(service_log), append="on")
    ET.SubElement(log, "target", type="virtio", name=LOG_CHANNEL)
    _serial_port(log, 2)


def _serial_port(channel: ET.Element, port: int) -> None:
    ET.SubElement(channel, "address", type="virtio-serial", controller="0", bus="0", port=str(port))


def _add_console(devices: ET.Element, console_log: Path) -> None:
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "log", file=str(console_log), append="on")
    target = ET.SubElement(serial, "target", type="isa-serial", port="0")
    ET.SubElement(target, "model", name="isa-serial")
    console = ET.SubElement(devices, "console", type="pty")
    ET.SubElement(console, "log", file=str(console_log), append="on")
    ET.SubElement(console, "target", type="serial", port="0")


def _add_panic(devices: ET.Element) -> None:
    panic = ET.SubElement(devices, "panic", model="isa")
    ET.SubElement(panic, "address", type="isa", iobase="0x505")
