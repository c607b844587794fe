"""What domains say of themselves, for a store that has to be made anew. Blocking."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import libvirt

from vmorch.errors import HypervisorError
from vmorch.hypervisor.domains import guest_state, identity_of
from vmorch.hypervisor.platform import QUOTA_PERIOD_MICROSECONDS
from vmorch.hypervisor.protocol import GuestState
from vmorch.model.found import FoundGuest
from vmorch.model.names import Installation

_TAP = re.compile(r"-t(\d+)-(\d+)\Z")
_GONE = frozenset({GuestState.OFF, GuestState.CRASHED})


def found_guests(uri: str, installation: Installation) -> list[FoundGuest]:
    """Every guest of the installation that runs.

    Raises:
        HypervisorError: libvirtd does not answer.
    """
    try:
        connection = libvirt.open(uri)
        try:
            found = [_found(d, installation) for d in connection.listAllDomains()]
        finally:
            connection.close()
    except libvirt.libvirtError as error:
        raise HypervisorError(
            f"libvirt cannot tell which guests run: {error}.",
            hint="Is libvirtd running? 'vmorch doctor' checks the host.",
        ) from error
    return [guest for guest in found if guest is not None]


def _found(domain: libvirt.virDomain, installation: Installation) -> FoundGuest | None:
    """None: it is not ours, has ended, or does not say where it stands."""
    identity = identity_of(domain)
    if identity is None or identity.owner != installation.id:
        return None
    if guest_state(*domain.state()) in _GONE:
        return None
    root = ET.fromstring(domain.XMLDesc())
    target = root.find("devices/interface/target")
    place = _TAP.search(target.get("dev", "")) if target is not None else None
    if place is None:
        return None
    return FoundGuest(
        environment=identity.environment,
        service=identity.service,
        ordinal=identity.ordinal,
        revision=identity.revision,
        image=identity.image,
        boot=identity.boot,
        uuid=domain.UUIDString(),
        network_index=int(place[1]),
        host_number=int(place[2]),
        subnet=identity.subnet,
        cpus=_cpus(domain),
        memory_bytes=domain.maxMemory() * 1024,
    )


def _cpus(domain: libvirt.virDomain) -> float:
    parameters = domain.schedulerParameters()
    quota = parameters.get("global_quota", -1)
    period = parameters.get("global_period", QUOTA_PERIOD_MICROSECONDS)
    return quota / period if quota > 0 else float(domain.maxVcpus())
