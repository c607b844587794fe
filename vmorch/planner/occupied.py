"""Whether another instance still has a volume that one is about to start with. Pure."""

from __future__ import annotations

from collections.abc import Collection

from vmorch.planner.snapshot import EnvironmentView, InstanceView


def occupied(
    environment: EnvironmentView,
    view: InstanceView,
    begun: Collection[tuple[str, str, int]] = (),
) -> str:
    """For people, what the start waits for; empty when its volumes are free. `begun` are the keys
    of instances that start in the same plan.

    Volumes that each instance has its own of are told apart by the store.
    """
    mine = {mount.source for mount in view.spec.volumes if not mount.per_instance}
    if not mine:
        return ""
    for other in environment.instances:
        has_begun = other.instance.boot or other.instance.key in begun
        if other.instance.key == view.instance.key or not has_begun:
            continue
        for mount in other.spec.volumes:
            if mount.source in mine and not mount.per_instance:
                return f"waiting until {other.instance.name} lets go of the volume '{mount.source}'"
    return ""
