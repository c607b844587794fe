"""What does not fit into a host even when nothing else runs there. Pure.

It is refused where it is ordered: it would wait for ever.
"""

from __future__ import annotations

from collections.abc import Mapping

from vmorch.model.host import HostView
from vmorch.model.spec import RestartCondition, ServiceSpec
from vmorch.planner.capacity import need_of, taken_by
from vmorch.planner.capacity_words import cpus, needed_memory, overcommitted, size
from vmorch.planner.words import counted


def never_fits(services: Mapping[str, ServiceSpec], host: HostView) -> str:
    """Why, for people; empty when all of them together fit into the empty host.

    A service that can complete makes room for others, so only each one of its instances must fit.
    The disk says nothing: room there may be made at any time.
    """
    declared = [spec for spec in services.values() if spec.replicas]
    for spec in declared:
        if why := _one_too_large(spec, host):
            return why
    lasting = [spec for spec in declared if spec.restart.condition is RestartCondition.ANY]
    return _too_large_together(lasting, host)


def _one_too_large(spec: ServiceSpec, host: HostView) -> str:
    need = need_of(spec, host.acceleration)
    if need.memory_bytes > host.instance_memory_bytes:
        return f"an instance of '{spec.name}' needs {needed_memory(need)}, {_memory(host)}"
    if need.millicpus > host.millicpus:
        return f"an instance of '{spec.name}' needs {cpus(need.millicpus)} CPUs, {_cpus(host)}"
    return ""


def _too_large_together(lasting: list[ServiceSpec], host: HostView) -> str:
    taken = taken_by([s for s in lasting for _ in range(s.replicas)], host.acceleration)
    all_of_them = f"its {counted(taken.instances, 'instance')} together need"
    if taken.memory_bytes > host.instance_memory_bytes:
        return f"{all_of_them} {size(taken.memory_bytes)} with QEMU's own, {_memory(host)}"
    if taken.millicpus > host.millicpus:
        return f"{all_of_them} {cpus(taken.millicpus)} CPUs, {_cpus(host)}"
    return ""


def _memory(host: HostView) -> str:
    return (
        f"and the empty host has {size(host.instance_memory_bytes)} "
        f"({size(host.memory_bytes)}, {size(host.kept_memory_bytes)} of it kept for the host)"
    )


def _cpus(host: HostView) -> str:
    return f"and the empty host has {cpus(host.millicpus)} ({overcommitted(host)})"
