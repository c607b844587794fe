"""What is read from libvirt's capabilities, and how limits are counted."""

from __future__ import annotations

import pytest

from vmorch.hypervisor.platform import (
    MIB,
    Owner,
    Platform,
    cpu_quota_microseconds,
    memory_limit_bytes,
    parse_platform,
)
from vmorch.model.guest import Acceleration

CAPABILITIES = """
<capabilities>
  <host>
    <secmodel><model>apparmor</model><doi>0</doi></secmodel>
    <secmodel>
      <model>dac</model><doi>0</doi>
      <baselabel type='kvm'>+64055:+108</baselabel>
      <baselabel type='qemu'>+64056:+109</baselabel>
    </secmodel>
  </host>
  <guest>
    <arch name='i686'>
      <machine canonical='pc-q35-6.0'>q35</machine><domain type='qemu'/>
    </arch>
  </guest>
  <guest>
    <arch name='x86_64'>
      <machine>pc-q35-2.9</machine>
      <machine canonical='pc-i440fx-7.2'>pc</machine>
      <machine canonical='pc-q35-7.2'>q35</machine>
      <domain type='qemu'/><domain type='kvm'/>
    </arch>
  </guest>
</capabilities>
"""
TEST_DRIVER = (
    "<capabilities><guest><arch name='i686'><domain type='test'/></arch></guest></capabilities>"
)


@pytest.mark.parametrize(
    ("acceleration", "domain_type", "owner"),
    [
        (Acceleration.KVM, "kvm", Owner(uid=64055, gid=108)),
        (Acceleration.TCG, "qemu", Owner(uid=64056, gid=109)),
    ],
)
def test_a_host(acceleration: Acceleration, domain_type: str, owner: Owner) -> None:
    """The machine type is the versioned one, so that an upgrade of QEMU changes no guest."""
    assert parse_platform(CAPABILITIES, acceleration) == Platform(
        domain_type=domain_type, machine="pc-q35-7.2", acceleration=acceleration, owner=owner
    )


def test_libvirts_own_test_driver() -> None:
    platform = parse_platform(TEST_DRIVER, Acceleration.TCG)
    assert (platform.domain_type, platform.machine, platform.owner) == ("test", "q35", None)


@pytest.mark.parametrize(
    ("cpus", "microseconds"),
    [(0.5, 50_000), (1.0, 100_000), (3.25, 325_000), (0.001, 1_000), (0.29, 29_000)],
)
def test_a_cap_as_a_quota(cpus: float, microseconds: int) -> None:
    assert cpu_quota_microseconds(cpus) == pytest.approx(microseconds, abs=1)
    assert cpu_quota_microseconds(cpus) >= 1_000


def test_the_host_counts_what_qemu_needs_beside_the_ram() -> None:
    def limit(acceleration: Acceleration, memory_bytes: int = 256 * MIB, vcpus: int = 1) -> int:
        return memory_limit_bytes(memory_bytes=memory_bytes, vcpus=vcpus, acceleration=acceleration)

    assert limit(Acceleration.TCG) - limit(Acceleration.KVM) == 128 * MIB
    assert limit(Acceleration.KVM) > 256 * MIB + 128 * MIB
    assert limit(Acceleration.KVM, vcpus=4) > limit(Acceleration.KVM)
    growth = limit(Acceleration.KVM, memory_bytes=1024 * MIB) - limit(Acceleration.KVM)
    assert growth > 768 * MIB
