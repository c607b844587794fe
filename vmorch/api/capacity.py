"""The host's capacity, as shown and as checked by doctor. Pure."""

from __future__ import annotations

from vmorch.model.host import HostView
from vmorch.model.view import Check
from vmorch.model.view.daemon import CapacityView
from vmorch.planner.capacity import room_of
from vmorch.planner.capacity_words import Taken, cpus, overcommitted, size
from vmorch.planner.look import Look
from vmorch.planner.words import counted


def capacity_view(host: HostView, look: Look | None) -> CapacityView:
    """`look` None: nothing was looked at yet, so nothing is known to be reserved."""
    used = _used(look)
    return CapacityView(
        instances=used.instances,
        cpus=host.cpus,
        cpu_overcommit=host.cpu_overcommit,
        cpus_for_instances=host.millicpus / 1000,
        cpus_reserved=used.millicpus / 1000,
        cpus_free=max(0, host.millicpus - used.millicpus) / 1000,
        memory_bytes=host.memory_bytes,
        memory_kept_bytes=host.kept_memory_bytes,
        memory_reserved_bytes=used.memory_bytes,
        memory_free_bytes=max(0, host.instance_memory_bytes - used.memory_bytes),
        disk_left_bytes=host.free_disk_bytes,
        disk_kept_bytes=host.kept_disk_bytes,
        disk_free_bytes=host.instance_disk_bytes,
    )


def capacity_check(host: HostView, look: Look | None) -> Check:
    """Not ok when the host can take nobody, or has more than it could take again."""
    used = _used(look)
    short = [
        what
        for what, most, taken in (
            ("memory", host.instance_memory_bytes, used.memory_bytes),
            ("CPUs", host.millicpus, used.millicpus),
            ("disk", host.instance_disk_bytes, 1),
        )
        if taken > most
    ]
    return Check(
        name="capacity",
        ok=not short,
        message=f"{counted(used.instances, 'instance')} reserve {size(used.memory_bytes)} of "
        f"{size(host.instance_memory_bytes)} and {cpus(used.millicpus)} of "
        f"{cpus(host.millicpus)} CPUs ({overcommitted(host)}); {size(host.instance_disk_bytes)} "
        "of disk are free",
        hint=f"No further instance starts for want of {' and '.join(short)}: stop some, or change "
        "what the settings keep for the host."
        if short
        else "",
    )


def _used(look: Look | None) -> Taken:
    return room_of(look.snapshot).used if look else Taken()
