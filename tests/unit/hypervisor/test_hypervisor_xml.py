"""What the domain's XML promises, part by part; the golden files hold the whole of it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from vmorch.hypervisor.metadata import NAMESPACE, identity_element, parse_identity
from vmorch.hypervisor.platform import Owner, Platform
from vmorch.hypervisor.protocol import GuestConfig, GuestIdentity, GuestVolume
from vmorch.hypervisor.xml import domain_xml
from vmorch.model.guest import Acceleration

MIB = 1024 * 1024
IDENTITY = GuestIdentity(
    owner="abcdef" + "0" * 26,
    environment="demo",
    service="hello_world",
    ordinal=3,
    revision=12,
    image="sha256:5a",
    boot=2,
)
CONFIG = GuestConfig(
    name="abcdef-demo-hello_world-3",
    uuid="6a1f4c1e-3a35-4c57-9b3c-1f6b0a5f0c01",
    identity=IDENTITY,
    vcpus=2,
    cpus=1.5,
    boot_cpus=2.0,
    memory_bytes=256 * MIB,
    kernel=Path("/var/lib/vmorch/images/bases/tiny/vmlinuz"),
    initrd=Path("/var/lib/vmorch/images/bases/tiny/initrd"),
    command_line="console=ttyS0 quiet root=/dev/vda",
    system_disk=Path("/var/lib/vmorch/environments/demo/hello-3/disk.qcow2"),
    seed_disk=Path("/var/lib/vmorch/environments/demo/hello-3/seed.iso"),
    mac="52:54:00:12:34:56",
    bridge="abcdef-br0",
    tap="abcdef-t0-3",
    service_log=Path("/var/lib/vmorch/environments/demo/hello-3/service.log"),
    console_log=Path("/var/lib/vmorch/environments/demo/hello-3/console.log"),
)
SPARE = Path("/var/lib/vmorch/hypervisor/blank.raw")
TCG = Platform(domain_type="qemu", machine="pc-q35-7.2", acceleration=Acceleration.TCG, owner=None)
KVM = replace(TCG, domain_type="kvm", acceleration=Acceleration.KVM)


def document(config: GuestConfig = CONFIG, platform: Platform = TCG) -> ET.Element:
    return ET.fromstring(domain_xml(config, platform, SPARE))


def test_every_pci_device_has_its_own_fixed_place() -> None:
    addresses = [
        (a.get("bus"), a.get("slot"), a.get("function"))
        for a in document().iterfind("devices/*/address[@type='pci']")
    ]
    assert len(set(addresses)) == len(addresses) == 4 + 4 + 1 + 1 + 1 + 1
    placeless = [
        device.tag
        for device in document().iterfind("devices/*")
        if device.find("address") is None
        and device.get("model") not in ("pcie-root", "none")
        and device.tag not in ("serial", "console")
    ]
    assert placeless == []


def test_the_place_of_a_device_does_not_depend_on_the_guest() -> None:
    other = replace(CONFIG, vcpus=7, memory_bytes=5000 * MIB, name="x", tap="y", bridge="z")
    here, there = (
        [ET.tostring(a) for a in document(c).iterfind("devices/*/address")] for c in (CONFIG, other)
    )
    assert here == there


@pytest.mark.parametrize(
    ("target", "serial", "path", "readonly"),
    [
        ("vda", "vmorch-system", CONFIG.system_disk, False),
        ("vdb", "vmorch-seed", CONFIG.seed_disk, True),
        ("vdc", "vmorch-spare0", SPARE, True),
        ("vdd", "vmorch-spare1", SPARE, True),
    ],
)
def test_disks(target: str, serial: str, path: Path, readonly: bool) -> None:
    (disk,) = (d for d in document().iterfind("devices/disk") if d[2].get("dev") == target)
    assert disk.findtext("serial") == serial
    assert len(serial) <= 20  # VIRTIO_BLK_ID_BYTES
    source = disk.find("source")
    assert source is not None
    assert source.get("file") == str(path)
    assert (disk.find("readonly") is not None) is readonly


def test_volumes_are_behind_the_spare_ports_and_move_nothing() -> None:
    volumes = tuple(GuestVolume(path=Path(f"/v/{n}.qcow2"), serial=f"v{n}") for n in range(4))
    plain, storing = document(), document(replace(CONFIG, volumes=volumes))
    disks = storing.findall("devices/disk")
    places = []
    for disk in disks[4:]:
        source, address = disk.find("source"), disk.find("address")
        assert source is not None
        assert address is not None
        assert disk.find("readonly") is None
        places.append((source.get("file"), disk.findtext("serial"), address.get("bus")))
    assert places == [(f"/v/{n}.qcow2", f"v{n}", f"0x0{n + 1}") for n in range(4)]
    for disk in disks[4:]:
        found = storing.find("devices")
        assert found is not None
        found.remove(disk)
    assert ET.canonicalize(ET.tostring(plain), strip_text=True) == ET.canonicalize(
        ET.tostring(storing), strip_text=True
    )


def test_libvirt_hands_no_file_to_qemus_user() -> None:
    """Neither layers nor kernel: they are shared by all guests."""
    label = document(platform=replace(TCG, owner=Owner(uid=64055, gid=108))).find("seclabel")
    assert label is not None
    assert label.attrib == {"type": "static", "model": "dac", "relabel": "no"}
    assert label.findtext("label") == "+64055:+108"


def test_the_system_disk_gives_freed_blocks_back() -> None:
    driver = document().find("devices/disk/driver")
    assert driver is not None
    assert (driver.get("type"), driver.get("discard")) == ("qcow2", "unmap")


def test_translation_is_bounded_and_its_cpu_is_a_named_model() -> None:
    tcg = document()
    assert tcg.findtext("features/tcg/tb-cache") == "128"
    assert tcg.findtext("cpu/model") == "Nehalem"
    kvm = document(platform=KVM)
    assert kvm.find("features/tcg") is None
    assert kvm.find("cpu[@mode='host-model']") is not None
    assert kvm.get("type") == "kvm"


def test_a_panic_is_seen_and_a_guest_that_ends_is_gone() -> None:
    domain = document()
    assert domain.find("devices/panic") is not None
    assert [domain.findtext(f"on_{what}") for what in ("crash", "poweroff", "reboot")] == [
        "preserve",
        "destroy",
        "restart",
    ]


def test_limits_are_set_live_and_never_written_down() -> None:
    assert document().find("cputune") is None
    assert document().find("memtune") is None


@pytest.mark.parametrize(("memory", "mebibytes"), [(256 * MIB, "256"), (256 * MIB + 1, "257")])
def test_memory_is_rounded_up_to_what_libvirt_keeps(memory: int, mebibytes: str) -> None:
    domain = document(replace(CONFIG, memory_bytes=memory))
    assert domain.findtext("memory") == domain.findtext("currentMemory") == mebibytes


def test_nothing_that_a_server_does_not_need() -> None:
    tags = {device.tag for device in document().iterfind("devices/*")}
    assert not tags & {"video", "graphics", "sound", "input", "watchdog", "tpm"}
    assert document().find("devices/controller[@type='usb'][@model='none']") is not None


def test_text_of_users_is_escaped() -> None:
    odd = replace(CONFIG, command_line='a="<&>\'" b')
    assert document(odd).findtext("os/cmdline") == 'a="<&>\'" b'


def test_identity_survives_the_metadata() -> None:
    element = document().find(f"metadata/{{{NAMESPACE}}}guest")
    assert element is not None
    assert parse_identity(ET.tostring(element, encoding="unicode")) == IDENTITY


@pytest.mark.parametrize("lost", ["owner", "ordinal", "boot"])
def test_an_identity_with_a_part_missing_is_none(lost: str) -> None:
    element = identity_element(IDENTITY)
    del element.attrib[lost]
    assert parse_identity(ET.tostring(element, encoding="unicode")) is None


@pytest.mark.parametrize("text", ["", "<guest", "<guest/>"])
def test_unreadable_metadata_is_no_identity(text: str) -> None:
    assert parse_identity(text) is None


def test_an_ordinal_that_is_no_number_is_no_identity() -> None:
    element = identity_element(IDENTITY)
    element.set("ordinal", "three")
    assert parse_identity(ET.tostring(element, encoding="unicode")) is None
