"""What a host gives to every guest: machine type, CPU, QEMU's user, and what QEMU itself needs."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from vmorch.model.guest import Acceleration

MIB = 1024 * 1024
QUOTA_PERIOD_MICROSECONDS = 100_000
_QUOTA_MINIMUM_MICROSECONDS = 1_000  # libvirt refuses less

# QEMU's translation buffer would take 1 GiB of the host by default.
TCG_CACHE_BYTES = 128 * MIB
# QEMU's own code, heap, device models, buffers and threads. A busy guest of 128 MiB was seen with
# 118 MiB beyond its RAM, most of it translated code; the kernel kills what exceeds the limit, so
# there is room for the rare peak.
QEMU_BYTES = 192 * MIB
QEMU_BYTES_PER_VCPU = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """User and group that QEMU runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """`domain_type` is libvirt's (kvm, qemu, test), `machine` a versioned machine type, so that
    a guest keeps its hardware over an upgrade of QEMU. `owner` None: QEMU runs as ourselves."""

    domain_type: str
    machine: str
    acceleration: Acceleration
    owner: Owner | None


def parse_platform(capabilities: str, acceleration: Acceleration) -> Platform:
    """What libvirt's capabilities document says of this host."""
    root = ET.fromstring(capabilities)
    domain_type = "kvm" if acceleration is Acceleration.KVM else "qemu"
    offered = {d.get("type") for d in root.iterfind("guest/arch[@name='x86_64']/domain")}
    offered |= {d.get("type") for d in root.iterfind("guest/arch/domain")}
    if domain_type not in offered and "test" in offered:
        domain_type = "test"
    return Platform(
        domain_type=domain_type,
        machine=_machine(root),
        acceleration=acceleration,
        owner=_owner(root, domain_type),
    )


def memory_limit_bytes(*, memory_bytes: int, vcpus: int, acceleration: Acceleration) -> int:
    """What the host's kernel may let the whole of QEMU use, RAM included."""
    cache = TCG_CACHE_BYTES if acceleration is Acceleration.TCG else 0
    tables = memory_bytes // 64  # page tables, dirty bitmaps
    return memory_bytes + cache + tables + QEMU_BYTES + vcpus * QEMU_BYTES_PER_VCPU


def cpu_quota_microseconds(cpus: float) -> int:
    """The share of each period that the whole domain may use."""
    return max(_QUOTA_MINIMUM_MICROSECONDS, math.ceil(cpus * QUOTA_PERIOD_MICROSECONDS))


def _machine(capabilities: ET.Element) -> str:
    for machine in capabilities.iterfind("guest/arch[@name='x86_64']/machine"):
        if machine.text == "q35" and (canonical := machine.get("canonical")):
            return canonical
    return "q35"


def _owner(capabilities: ET.Element, domain_type: str) -> Owner | None:
    for model in capabilities.iterfind("host/secmodel"):
        if model.findtext("model") == "dac":
            label = model.findtext(f"baselabel[@type='{domain_type}']") or ""
            if match := re.fullmatch(r"\+(\d+):\+(\d+)", label):
                return Owner(uid=int(match[1]), gid=int(match[2]))
    return None
