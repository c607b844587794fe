"""One fork of a saved guest, from its state to its first instruction. Blocking, as all work for
libvirt: for the threads of a connection."""

from __future__ import annotations

from pathlib import Path

import libvirt

from vmorch.hypervisor import domains
from vmorch.hypervisor.files import hand_over_all
from vmorch.hypervisor.fork_xml import fork_xml
from vmorch.hypervisor.platform import Platform
from vmorch.hypervisor.protocol import GuestConfig
from vmorch.hypervisor.saved_state import open_saved_state, poured


def fork(
    connection: libvirt.virConnect,
    config: GuestConfig,
    saved: Path,
    *,
    platform: Platform,
    spare_disk: Path,
    pipes: Path,
) -> None:
    """Start the guest of `config` from the state at `saved`. `pipes` is a directory for what it is
    poured through. One that runs already is left alone; one that stands still was cut off, perhaps
    before its volumes were plugged in, and is made anew: its disk has not been written yet.

    Raises:
        HypervisorError: the state cannot be used, or a file of the guest cannot be handed over.
    """
    domain = domains.existing(connection, config.name, config.uuid)
    if domain is not None:
        if not domains.is_unreleased(domain):
            return
        domain.destroy()
    domain = _restored(connection, config, saved, platform, spare_disk, pipes)
    domains.plug_volumes(domain, config.volumes)
    domains.release(domain, config, platform.acceleration)


def _restored(
    connection: libvirt.virConnect,
    config: GuestConfig,
    saved: Path,
    platform: Platform,
    spare_disk: Path,
    pipes: Path,
) -> libvirt.virDomain:
    with open_saved_state(saved) as (state, stream):
        own = state.with_xml(fork_xml(state.xml, config, spare_disk))
        hand_over_all(config, platform.owner)
        with poured(own, stream, pipes) as pipe:
            return domains.restore(connection, config.name, pipe, None)
