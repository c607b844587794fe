"""The domain's XML against golden files, and against libvirt's own schema.

`VMORCH_GOLDEN=write pytest …` writes the golden files anew; read the difference before a commit:
a change of the devices makes every saved guest unusable.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from vmorch.hypervisor.platform import Owner, Platform
from vmorch.hypervisor.protocol import GuestConfig, GuestIdentity, GuestVolume
from vmorch.hypervisor.xml import domain_xml
from vmorch.model.guest import Acceleration

GOLDEN = Path(__file__).parent / "golden" / "domain"
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
STATE = Path("/var/lib/vmorch")
HELLO = STATE / "environments/demo/hello-1"
SMALL = GuestConfig(
    name="abcdef-demo-hello-1",
    uuid="6a1f4c1e-3a35-4c57-9b3c-1f6b0a5f0c01",
    identity=GuestIdentity(
        owner="abcdef" + "0" * 26,
        environment="demo",
        service="hello",
        ordinal=1,
        revision=1,
        image="sha256:5a0f",
        boot=1,
        subnet="10.212.0.0/24",
    ),
    vcpus=1,
    cpus=0.5,
    boot_cpus=1.0,
    memory_bytes=256 * 1024 * 1024,
    kernel=STATE / "images/bases/debian-12/vmlinuz",
    initrd=STATE / "images/bases/debian-12/initrd",
    command_line="console=ttyS0 quiet root=/dev/vda rw",
    system_disk=HELLO / "disk.qcow2",
    seed_disk=HELLO / "seed.iso",
    mac="52:54:00:12:34:56",
    bridge="abcdef-br0",
    tap="abcdef-t0-64",
    service_log=HELLO / "service.log",
    console_log=HELLO / "console.log",
)
LARGE = replace(
    SMALL,
    name="abcdef-a_b-c_d-120",
    identity=replace(SMALL.identity, environment="a_b", service="c_d", ordinal=120, boot=7),
    vcpus=8,
    memory_bytes=16 * 1024**3,
    command_line='quote="it\'s" less=<more>&',
)
TCG = Platform(
    domain_type="qemu",
    machine="pc-q35-7.2",
    acceleration=Acceleration.TCG,
    owner=Owner(uid=64055, gid=108),
)
KVM = replace(TCG, domain_type="kvm", acceleration=Acceleration.KVM)
VOLUMES = STATE / "volumes/demo"
STORING = replace(
    SMALL,
    volumes=tuple(GuestVolume(path=VOLUMES / f"{n}.qcow2", serial=f"v{n}") for n in range(4)),
)
CASES = {
    "tcg-small": (SMALL, TCG),
    "tcg-volumes": (STORING, TCG),
    "tcg-loader": (replace(SMALL, kernel=None, initrd=None, command_line=""), TCG),
    "kvm-small": (SMALL, KVM),
    "kvm-large": (LARGE, KVM),
}


def document(case: str) -> str:
    config, platform = CASES[case]
    return domain_xml(config, platform, STATE / "hypervisor/blank.raw")


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    path = GOLDEN / f"{case}.xml"
    if os.environ.get("VMORCH_GOLDEN") == "write":
        path.write_text(document(case))
    assert document(case) == path.read_text()


@pytest.mark.parametrize("case", CASES)
def test_libvirts_schema(case: str, tmp_path: Path) -> None:
    path = tmp_path / "domain.xml"
    path.write_text(document(case))
    check = ["xmllint", "--noout", "--relaxng", str(SCHEMA), str(path)]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_schema_is_one_that_refuses(tmp_path: Path) -> None:
    path = tmp_path / "domain.xml"
    path.write_text(document("tcg-small").replace("<devices>", "<devices><bogus/>"))
    check = ["xmllint", "--noout", "--relaxng", str(SCHEMA), str(path)]
    assert subprocess.run(check, capture_output=True).returncode != 0
