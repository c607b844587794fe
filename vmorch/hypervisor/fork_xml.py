"""The XML of a saved guest as that of another one, or of itself again. Pure; `xml.py` makes the
first.

What makes the machine (memory, CPU, devices and their places) stays as it was saved; who it is,
its files and its way into the network are the fork's.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from vmorch.errors import HypervisorError
from vmorch.hypervisor.metadata import identity_element
from vmorch.hypervisor.protocol import GuestConfig

# Limits are set live, as in a cold guest; a memory limit in the document may not even be allowed.
_LIMITS = ("memtune", "cputune", "blkiotune")
# What libvirt chose for the running guest and chooses anew.
_RUNTIME = {"serial": ("source", "alias"), "console": ("source", "alias")}


def fork_xml(saved: str, config: GuestConfig, spare_disk: Path) -> str:
    """`config` must describe the same machine; its NIC begins with the link down.

    Raises:
        HypervisorError: `saved` is no domain of ours.
    """
    try:
        domain = ET.fromstring(saved)
        _name(domain, config)
        _boot(domain, config)
        devices = _found(domain, "devices")
        _disks(devices, config, spare_disk)
        _nic(devices, config)
        _logs(devices, config)
        _forget_runtime(domain)
    except ET.ParseError as error:
        raise HypervisorError(f"The XML of a saved state cannot be read: {error}.") from error
    return ET.tostring(domain, encoding="unicode")


def woken_xml(saved: str, name: str, uuid: str) -> str:
    """The same guest, with the same disks and the same NIC.

    Raises:
        HypervisorError: `saved` is not the guest of that name and UUID.
    """
    try:
        domain = ET.fromstring(saved)
        if (_found(domain, "name").text, _found(domain, "uuid").text) != (name, uuid):
            raise HypervisorError(f"The saved state is not that of {name}.")
        _forget_runtime(domain)
    except ET.ParseError as error:
        raise HypervisorError(f"The XML of a saved state cannot be read: {error}.") from error
    return ET.tostring(domain, encoding="unicode")


def _found(parent: ET.Element, path: str) -> ET.Element:
    element = parent.find(path)
    if element is None:
        raise HypervisorError(f"The XML of a saved state has no {path}.")
    return element


def _name(domain: ET.Element, config: GuestConfig) -> None:
    _found(domain, "name").text = config.name
    _found(domain, "uuid").text = config.uuid
    metadata = _found(domain, "metadata")
    metadata.clear()
    metadata.append(identity_element(config.identity))


def _boot(domain: ET.Element, config: GuestConfig) -> None:
    """Not read any more, but QEMU opens what its command line names."""
    for tag, value in (("kernel", config.kernel), ("initrd", config.initrd)):
        element = domain.find(f"os/{tag}")
        if element is not None:
            element.text = str(value)


def _disks(devices: ET.Element, config: GuestConfig, spare_disk: Path) -> None:
    files = {"vda": config.system_disk, "vdb": config.seed_disk, "vdc": spare_disk}
    files["vdd"] = spare_disk
    for disk in devices.findall("disk"):
        target = _found(disk, "target").get("dev", "")
        if target not in files:
            raise HypervisorError(f"A saved state with the disk {target} cannot be forked.")
        for backing in disk.findall("backingStore"):
            disk.remove(backing)
        source = _found(disk, "source")
        label = source.findall("seclabel")
        source.attrib.clear()
        source.set("file", str(files[target]))
        for child in [child for child in source if child not in label]:
            source.remove(child)


def _nic(devices: ET.Element, config: GuestConfig) -> None:
    nic = _found(devices, "interface")
    _found(nic, "mac").set("address", config.mac)
    source = _found(nic, "source")
    source.attrib.clear()
    source.set("bridge", config.bridge)
    _found(nic, "target").set("dev", config.tap)
    _found(nic, "link").set("state", "down")


def _logs(devices: ET.Element, config: GuestConfig) -> None:
    for channel in devices.findall("channel[@type='file']"):
        _found(channel, "source").set("path", str(config.service_log))
    for tag in _RUNTIME:
        for element in devices.findall(tag):
            _found(element, "log").set("file", str(config.console_log))


def _forget_runtime(domain: ET.Element) -> None:
    devices = _found(domain, "devices")
    for tag in _LIMITS:
        for element in domain.findall(tag):
            domain.remove(element)
    for channel in devices.findall("channel"):
        source = channel.find("source")
        if channel.get("type") != "file" and source is not None:
            channel.remove(source)
    for tag, runtime in _RUNTIME.items():
        for element in devices.findall(tag):
            element.attrib.pop("tty", None)
            for name in runtime:
                for child in element.findall(name):
                    element.remove(child)
