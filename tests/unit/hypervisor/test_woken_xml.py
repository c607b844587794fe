"""A saved guest's own XML, given back to libvirt."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tests.unit.hypervisor.test_hypervisor_xml import CONFIG, SPARE, TCG
from vmorch.errors import HypervisorError
from vmorch.hypervisor.fork_xml import woken_xml
from vmorch.hypervisor.xml import domain_xml


def saved() -> str:
    """As libvirt writes it of a running guest: with limits, and with what it chose."""
    domain = ET.fromstring(domain_xml(CONFIG, TCG, SPARE))
    for tag in ("memtune", "cputune"):
        ET.SubElement(domain, tag)
    serial, channel = domain.find("devices/serial"), domain.find("devices/channel[@type='unix']")
    assert serial is not None and channel is not None
    serial.set("tty", "/dev/pts/3")
    ET.SubElement(serial, "source", path="/dev/pts/3")
    ET.SubElement(channel, "source", mode="bind", path="/run/libvirt/qemu/channel/3-x/agent")
    return ET.tostring(domain, encoding="unicode")


def test_only_limits_and_what_libvirt_chose_are_forgotten() -> None:
    woken = woken_xml(saved(), CONFIG.name, CONFIG.uuid)
    plain = domain_xml(CONFIG, TCG, SPARE)
    assert ET.canonicalize(woken, strip_text=True) == ET.canonicalize(plain, strip_text=True)


def test_another_guests_memory_is_refused() -> None:
    for name, uuid in ((CONFIG.name, "other"), ("other", CONFIG.uuid)):
        with pytest.raises(HypervisorError, match="is not that of"):
            woken_xml(saved(), name, uuid)
    with pytest.raises(HypervisorError, match="cannot be read"):
        woken_xml("<domain>", CONFIG.name, CONFIG.uuid)
