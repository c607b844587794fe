"""How many guests come up at once. Pure.

A cold boot holds a boot slot until it is ready or its burst is over: it takes a whole core, and
under TCG more boots than cores starve each other's timers until none comes up. A guest that comes
from memory, a fork or one that wakes, has that behind it: it holds a slot of another kind, and
only while it is restored and told who it is. What it then does is what any service does that runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from vmorch.model.instance import Instance, State
from vmorch.model.spec import StartMode
from vmorch.planner.actions import StartGuest, WakeGuest
from vmorch.planner.running import is_forked
from vmorch.planner.snapshot import InstanceView, Snapshot

RESTORES_AT_ONCE = 2
"""Each reads a guest's whole memory and holds one of the five calls that libvirt takes from us at
once: looks at the other guests shall not wait for them. A fork that fails boots at once, whether
or not a boot slot is free; this bounds those, too."""

WAITING_FOR_RESTORE = f"waiting for one of {RESTORES_AT_ONCE} restores from memory"


def waiting_for_boot(boots_at_once: int) -> str:
    return f"waiting for one of {boots_at_once} boot slots"


@dataclass(slots=True)
class Slots:
    """Those of either kind that are free, and how many guests are on their way up."""

    boots: int
    restores: int
    coming_up: int
    boots_at_once: int

    @classmethod
    def free(cls, snapshot: Snapshot) -> Self:
        views = [view for environment in snapshot.environments for view in environment.instances]
        return cls(
            boots=snapshot.boots_at_once - sum(map(holds_boot_slot, views)),
            restores=RESTORES_AT_ONCE - sum(map(_is_restored, views)),
            coming_up=sum(map(is_coming_up, views)),
            boots_at_once=snapshot.boots_at_once,
        )

    def lacks(self, instance: Instance, *, warm: bool) -> str:
        """For people, what it waits for; empty when there is a slot for it."""
        if _from_memory(instance, warm=warm):
            return "" if self.restores > 0 else WAITING_FOR_RESTORE
        return "" if self.boots > 0 else waiting_for_boot(self.boots_at_once)

    def take(self, action: StartGuest | WakeGuest) -> None:
        if action.instance.state is State.STARTING:
            return  # its start was interrupted, and is counted
        self.coming_up += 1
        if isinstance(action, WakeGuest) or action.fork:
            self.restores -= 1
        else:
            self.boots -= 1


def _from_memory(instance: Instance, *, warm: bool) -> bool:
    return instance.state is State.SLEEPING or is_forked(instance, warm=warm)


def is_coming_up(view: InstanceView) -> bool:
    instance = view.instance
    if instance.state is State.STARTING:
        return True
    return instance.state is State.RUNNING and instance.ready_at is None and not instance.capped


def _is_restored(view: InstanceView) -> bool:
    return view.instance.state is State.STARTING and view.instance.start is not StartMode.COLD


def holds_boot_slot(view: InstanceView) -> bool:
    """Also one that slept in its boot: it goes on with that."""
    forked = view.instance.start is StartMode.FORK
    return is_coming_up(view) and not _is_restored(view) and not forked
