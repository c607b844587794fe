"""What a plan may ask for. Each action states its reason; `vmorch.reconciler` performs them."""

from __future__ import annotations

from dataclasses import dataclass

from vmorch.model.event import EventKind
from vmorch.model.instance import Instance
from vmorch.model.rollout import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateInstance:
    """Take an ordinal and addresses for a new instance."""

    environment: str
    service: str
    revision: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Write `instance` down as it stands here, and tell it as an event. `decides_goal`: its goal
    is the planner's decision, and not only what was seen."""

    instance: Instance
    kind: EventKind
    reason: str
    decides_goal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRollout:
    """Write down how a rollout has gone on from what it `was`, unless a user came first."""

    rollout: Rollout
    was: Rollout
    kind: EventKind
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """End a rollout, which `was` so, and lead its service back to the revision before it."""

    rollout: Rollout
    was: Rollout
    to: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartGuest:
    """Make disk and seed if they are missing, then start the guest; `boot` counts its starts.
    `fork`: from the warm snapshot of its revision, cold only if that fails."""

    instance: Instance
    boot: int
    reason: str
    fork: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CapGuest:
    """End the boot burst."""

    instance: Instance
    cpus: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspendGuest:
    """Stop its vCPUs; its memory stays."""

    instance: Instance
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeGuest:
    """Let a suspended guest run on. `not_before`: not again before then, should it not last."""

    instance: Instance
    not_before: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepGuest:
    """Save its memory into a file, which ends the guest; or find out how an interrupted save of
    it ended."""

    instance: Instance
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeGuest:
    """Resume it from its saved memory. When that cannot be, the memory is given up, and the
    instance waits to boot from its disk."""

    instance: Instance
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutDownGuest:
    """Ask the guest to power off; force follows after `deadline`."""

    instance: Instance
    deadline: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DestroyGuest:
    instance: Instance
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Make a warm snapshot of a service's revision."""

    environment: str
    service: str
    revision: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DestroyOrphan:
    domain: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveInstance:
    """Delete disk and seed, free the addresses, forget the instance; its logs stay."""

    instance: Instance
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveEnvironment:
    """Nothing of it runs any more: take away network, directory and record."""

    environment: str
    reason: str


Action = (
    CreateInstance
    | Note
    | PutRollout
    | RollBack
    | StartGuest
    | CapGuest
    | SuspendGuest
    | ResumeGuest
    | SleepGuest
    | WakeGuest
    | ShutDownGuest
    | DestroyGuest
    | DestroyOrphan
    | RemoveInstance
    | RemoveEnvironment
    | WarmUp
)

ABOUT_ONE_INSTANCE = (
    Note,
    StartGuest,
    CapGuest,
    SuspendGuest,
    ResumeGuest,
    SleepGuest,
    WakeGuest,
    ShutDownGuest,
    DestroyGuest,
    RemoveInstance,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`wake_at`: when to look again though nothing has happened; None: no need."""

    actions: tuple[Action, ...]
    wake_at: float | None
