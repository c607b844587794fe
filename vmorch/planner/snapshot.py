"""What the planner sees: one consistent look at the desired and the observed.

Made by `vmorch.reconciler.observe`; read by `vmorch.planner.plan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vmorch.model.guest import GuestState
from vmorch.model.host import BOUNDLESS, HostView
from vmorch.model.instance import Goal, Instance
from vmorch.model.rollout import Rollout
from vmorch.model.spec import ServiceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """How long a guest has given no sign of life, and how many cores it used in that time."""

    silent_seconds: float
    cpus: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceView:
    """An instance as remembered, and its guest as seen.

    `guest` None: there is no domain. `healthy` None: no verdict yet. `admitted`: the proxy, as
    last told, gives it new connections, `routed`: it leaves old ones alone; `sessions` are open
    there now. `busy`: an action on it is under way, so nothing is planned for it. `end` says how
    the last guest ended, if we heard; `ended_by_itself` that it powered itself off. `service` and
    `exit_code` are the guest's word (see GuestReport), `mishap` is what its console told in this
    boot. `pulse` None: it has not answered yet, so its silence says nothing. `failed_checks` have
    failed in a row.
    """

    instance: Instance
    spec: ServiceSpec
    guest: GuestState | None = None
    healthy: bool | None = None
    health_message: str = ""
    cloud_init_failed: bool = False
    admitted: bool = False
    routed: bool = False
    sessions: int = 0
    busy: bool = False
    end: str = ""
    ended_by_itself: bool = False
    unhealthy_since: float | None = None
    service: str = ""
    exit_code: int | None = None
    mishap: str = ""
    pulse: Pulse | None = None
    failed_checks: int = 0

    @property
    def wanted(self) -> bool:
        """One that is stopped, asleep or paused still is one of its service's instances."""
        return self.instance.goal is not Goal.REMOVE


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentView:
    """`current` maps each declared service to the number of the revision that it should have,
    `rollouts` to its last rollout. `network_ready`: the router and its rules are what they should
    be; `network_trouble` says why they could not be made so. `warm` are the (service, revision)
    that have a warm snapshot, `may_warm` those that have none and could, `wanted_warm` those of
    which a user has asked for one. `in_proxy`: the proxy, as last told, still listens or routes
    for it. `busy`: its removal is under way."""

    name: str
    removing: bool
    services: dict[str, ServiceSpec]
    current: dict[str, int]
    instances: tuple[InstanceView, ...]
    network_ready: bool
    network_trouble: str = ""
    rollouts: Mapping[str, Rollout] = field(default_factory=dict)
    in_proxy: bool
    busy: bool = False
    warm: frozenset[tuple[str, int]] = frozenset()
    may_warm: frozenset[tuple[str, int]] = frozenset()
    wanted_warm: frozenset[tuple[str, int]] = frozenset()
    _by_service: dict[str, tuple[InstanceView, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        found: dict[str, list[InstanceView]] = {}
        for view in self.instances:
            found.setdefault(view.instance.service, []).append(view)
        self._by_service.update({name: tuple(views) for name, views in found.items()})

    def of(self, service: str) -> tuple[InstanceView, ...]:
        return self._by_service.get(service, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """`orphans` are domains of instances that are gone: what an interrupted removal left.
    `warming`: a warm snapshot is being made, by an anonymous instance of `anonymous` (None: its
    environment is gone, and so will it be). `time_scale` multiplies what a guest may take (see
    Acceleration). `boots_at_once` bounds cold boots."""

    environments: tuple[EnvironmentView, ...]
    orphans: tuple[str, ...] = ()
    time_scale: float = 1.0
    boots_at_once: int = 2
    warming: bool = False
    anonymous: ServiceSpec | None = None
    host: HostView = BOUNDLESS
