"""Instances, revisions and networks as the store remembers them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from vmorch.model.names import instance_name
from vmorch.model.spec import ServiceSpec, StartMode


class State(enum.StrEnum):
    """What `vmorch ps` shows of an instance."""

    PENDING = "pending"
    BUILDING = "building"
    STARTING = "starting"
    RUNNING = "running"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"
    PAUSED = "paused"
    SLEEPING = "sleeping"
    FAILED = "failed"


class Goal(enum.StrEnum):
    """What the user or the planner has decided for an instance, written down before anything is
    done. STOP keeps the instance with its disk and addresses, SLEEP also its guest's memory, in a
    file, PAUSE the guest itself."""

    RUN = "run"
    STOP = "stop"
    SLEEP = "sleep"
    PAUSE = "pause"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A service's image digest plus everything in its spec that reaches a guest."""

    environment: str
    service: str
    number: int
    digest: str
    spec: ServiceSpec
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentNetwork:
    """Addresses of one environment, chosen by vmorch and kept for its life.

    `index` (0 to 255) names bridge, namespace and links. `inner` is what guests see, `outer`
    the host-unique /24 that the router maps onto it, `link` the /31 between host and router.
    In `inner`, .1 is the gateway, .2 to .63 are service addresses, .64 to .254 instances.
    """

    environment: str
    index: int
    inner: str
    outer: str
    link: str
    internal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One service instance. Its name, disk, MAC and addresses survive a crash of its guest.

    `boot` counts starts of its guest (1 is the first). `reason` is one sentence for people.
    `not_before` holds a restart back (back-off); `deadline` bounds a drain or shutdown under
    way. `capped` is set once the boot burst has ended in the CPU cap. `fault` says what is
    wrong with its guest while that is being ended for it. `exit_code` is that of a service that
    has ended for good. `saving`: it is on its way into sleep, out of the proxy whole; how far the
    save came, only its file tells.
    """

    environment: str
    service: str
    ordinal: int
    revision: int
    uuid: str
    mac: str
    inner_address: str
    outer_address: str
    goal: Goal
    state: State
    reason: str
    created_at: float
    start: StartMode = StartMode.COLD
    boot: int = 0
    started_at: float | None = None
    ready_at: float | None = None
    not_before: float | None = None
    deadline: float | None = None
    failures: int = 0
    capped: bool = False
    fault: str = ""
    exit_code: int | None = None
    saving: bool = False

    @property
    def name(self) -> str:
        return instance_name(self.service, self.ordinal)

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.environment, self.service, self.ordinal)
