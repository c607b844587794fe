"""Whether one more guest fits into the host. Pure; `vmorch.planner.plan` asks before each start.

What counts is what is reserved, not what is in use just now: a guest takes its memory when its
service needs it, and then it must be there. Disks are thin: a first start needs what a boot
writes, not what the disk may grow to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vmorch.model.guest import Acceleration
from vmorch.model.host import HostView
from vmorch.model.instance import Goal, State
from vmorch.model.spec import ServiceSpec
from vmorch.planner import capacity_words as words
from vmorch.planner.capacity_words import MIB, Need, Taken
from vmorch.planner.faults import RUNS
from vmorch.planner.snapshot import InstanceView, Snapshot

QEMU_BYTES = 40 * MIB
QEMU_BYTES_PER_VCPU = 8 * MIB
TABLES_SHARE = 512
"""What QEMU takes beside a guest's memory, of which its page tables are that share. KubeVirt
counts a stressed guest's QEMU so."""
TRANSLATED_BYTES = 80 * MIB
"""Under TCG, for translated code: a busy guest of 128 MiB was seen with 118 MiB in all beside its
memory. Less than the hard limit (`vmorch.hypervisor.platform`), which leaves room for a peak."""
FIRST_START_BYTES = 64 * MIB
"""Disk for a new instance's overlay, seed and logs until the next look at what is free."""


def need_of(spec: ServiceSpec, acceleration: Acceleration) -> Need:
    cpus = spec.cpus if spec.reserved_cpus is None else spec.reserved_cpus
    reserved = spec.reserved_memory_bytes
    guest_bytes = spec.memory_bytes if reserved is None else reserved
    translated = TRANSLATED_BYTES if acceleration is Acceleration.TCG else 0
    beside = QEMU_BYTES + spec.vcpus * QEMU_BYTES_PER_VCPU + spec.memory_bytes // TABLES_SHARE
    return Need(
        millicpus=round(cpus * 1000), guest_bytes=guest_bytes, qemu_bytes=beside + translated
    )


def holds_room(view: InstanceView) -> bool:
    """It has a guest, or is on its way to one; whose start has only just begun is still remembered
    as it was before."""
    if view.guest is not None:
        return True
    state = view.instance.state
    return state is State.STARTING or (view.busy and state in {State.PENDING, State.SLEEPING})


def comes_back(view: InstanceView) -> bool:
    """Its guest has ended by a failure and is started again by itself."""
    instance = view.instance
    failed = instance.state is State.PENDING and instance.failures > 0
    return instance.goal is Goal.RUN and (failed or instance.state in RUNS) and not holds_room(view)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What of the host is `used`, and `taken`: that and what is kept for instances that come back,
    from everybody but each other. A failure shall not cost an instance its place, and a host that
    has become smaller shall not keep all of them from starting. `first_starts` have begun, and what
    they write is not missing from the free disk yet."""

    host: HostView
    used: Taken
    taken: Taken
    first_starts: int

    def lacks(self, view: InstanceView) -> str:
        """What a start (or waking) of it waits for, for people; empty when it fits."""
        if holds_room(view):
            return ""
        if comes_back(view):
            return self._lacks(view.spec, self.used)
        return self._lacks(view.spec, self.taken) or self._lacks_disk(int(not view.instance.boot))

    def lacks_for_warming(self, spec: ServiceSpec) -> str:
        """The same, for an anonymous instance whose memory is saved to the disk."""
        ram = -(-spec.memory_bytes // FIRST_START_BYTES)
        return self._lacks(spec, self.taken) or self._lacks_disk(1 + ram)

    def with_start(self, view: InstanceView) -> Room:
        """When it has begun to start as well."""
        if holds_room(view):
            return self
        need = Taken.of(need_of(view.spec, self.host.acceleration))
        return replace(
            self,
            used=self.used.plus(need),
            taken=self.taken if comes_back(view) else self.taken.plus(need),
            first_starts=self.first_starts + (not view.instance.boot),
        )

    def _lacks(self, spec: ServiceSpec, taken: Taken) -> str:
        need = need_of(spec, self.host.acceleration)
        if taken.memory_bytes + need.memory_bytes > self.host.instance_memory_bytes:
            return words.waiting_for_memory(need, self.host, taken)
        if taken.millicpus + need.millicpus > self.host.millicpus:
            return words.waiting_for_cpus(need, self.host, taken)
        return ""

    def _lacks_disk(self, parts: int) -> str:
        promised = self.first_starts * FIRST_START_BYTES
        needed = parts * FIRST_START_BYTES
        if not parts or needed + promised <= self.host.instance_disk_bytes:
            return ""
        return words.waiting_for_disk(needed, self.host, promised, self.first_starts)


def room_of(snapshot: Snapshot) -> Room:
    used, returning = [], []
    first_starts = 0
    for environment in snapshot.environments:
        for view in environment.instances:
            if holds_room(view):
                used.append(view.spec)
                first_starts += view.guest is None and view.instance.boot <= 1
            elif comes_back(view):
                returning.append(view.spec)
    if snapshot.anonymous is not None:
        used.append(snapshot.anonymous)
    acceleration = snapshot.host.acceleration
    in_use = taken_by(used, acceleration)
    return Room(
        host=snapshot.host,
        used=in_use,
        taken=in_use.plus(taken_by(returning, acceleration)),
        first_starts=first_starts,
    )


def taken_by(specs: Sequence[ServiceSpec], acceleration: Acceleration) -> Taken:
    """All of them together. Instances share the values of their revisions, so each is reckoned up
    once."""
    counts = Counter(map(id, specs))
    distinct = {id(spec): spec for spec in specs}
    total = Taken()
    for key, spec in distinct.items():
        total = total.plus(Taken.of(need_of(spec, acceleration), counts[key]))
    return total
