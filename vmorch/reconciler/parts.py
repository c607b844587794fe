"""Everything the reconciler acts through: the ports, each behind its protocol."""

from __future__ import annotations

from dataclasses import dataclass

from vmorch.config import Settings
from vmorch.effects import Clock, Entropy, Faults, Processes
from vmorch.guest.protocol import Guests
from vmorch.health.protocol import Prober
from vmorch.host.protocol import Host
from vmorch.hypervisor.protocol import Hypervisor
from vmorch.images.protocol import Images
from vmorch.network.protocol import Network
from vmorch.proxy.protocol import Proxy
from vmorch.reconciler.identity import InstanceKeys
from vmorch.snapshots.protocol import Snapshots
from vmorch.store.protocol import Store
from vmorch.volumes.protocol import VolumeDisks


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    settings: Settings
    host: Host
    store: Store
    hypervisor: Hypervisor
    network: Network
    images: Images
    disks: VolumeDisks
    snapshots: Snapshots
    guests: Guests
    proxy: Proxy
    prober: Prober
    keys: InstanceKeys
    clock: Clock
    entropy: Entropy
    faults: Faults
    processes: Processes
