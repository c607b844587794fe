"""What the daemon remembers. `sqlite.py` keeps it in one file (or in memory for the simulation).

Every call is one transaction: it has happened whole, durably, when it returns. `version` of an
environment counts its changes; a write that states the version it was decided on is refused
(compare-and-set) when somebody else wrote in between.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vmorch.model.event import Event, EventKind
from vmorch.model.instance import EnvironmentNetwork, Goal, Instance, Revision
from vmorch.model.names import Installation
from vmorch.model.rollout import Rollout
from vmorch.model.spec import EnvironmentSpec, ServiceSpec, VolumeMount
from vmorch.model.volume import Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentRecord:
    """`current` maps each service to the number of the revision that it should have. `removing` is
    set by `down`; the record goes when nothing of the environment is left. `holder` is a process
    whose end ends the environment (see `vmorch.effects.Processes`), `expires_at` a time that does.
    Each published port in `spec` has its number."""

    name: str
    spec: EnvironmentSpec
    version: int
    network: EnvironmentNetwork
    current: dict[str, int]
    created_at: float
    removing: bool = False
    remove_volumes: bool = False
    expires_at: float | None = None
    holder: str | None = None

    @property
    def declared(self) -> dict[tuple[str, str, int], ServiceSpec]:
        """By (environment, service, revision): the current revisions as they are declared now, with
        what makes no revision of its own (policies, grace, how instances start)."""
        return {
            (self.name, service, self.current[service]): spec
            for service, spec in self.spec.services.items()
        }


class Store(Protocol):
    @property
    def installation(self) -> Installation: ...

    async def environments(self) -> Sequence[EnvironmentRecord]: ...

    async def environment(self, name: str) -> EnvironmentRecord:
        """Raises NotFound."""
        ...

    async def apply(
        self,
        spec: EnvironmentSpec,
        *,
        now: float,
        expected_version: int | None = None,
        expires_at: float | None = None,
        holder: str | None = None,
        canary: int | None = None,
        by_hand: Collection[str] = (),
    ) -> EnvironmentRecord:
        """Create or change an environment; a service whose revision digest is new gets the next
        revision, and one whose revision changes a rollout, with `canary` percent of the requests
        where an earlier revision can have the rest. Images in `spec` must be digests. The network
        is allocated at creation, and a published port without a number is given one that it keeps
        for the environment's life. A service that scales by itself keeps the number of instances
        that it has, but for services in `by_hand`: theirs in `spec` is a user's order.
        `expires_at` and `holder` stay what they were where they are None.

        Raises:
            Refused: the environment is being removed, or its version is not the expected one,
                or no network index is free, or another environment has one of its ports or
                routed host names, or a service with volumes should have a canary, or an order is
                beyond the bounds of a service that scales by itself.
        """
        ...

    async def scale(
        self,
        environment: str,
        replicas: Mapping[str, int],
        *,
        now: float,
        expected_version: int | None = None,
    ) -> EnvironmentRecord:
        """Raises NotFound (environment or service), Refused (being removed, at another version, a
        shared volume, or beyond the bounds of a service that scales by itself)."""
        ...

    async def remove(self, environment: str, *, volumes: bool, now: float) -> EnvironmentRecord:
        """Mark it for removal; the reconciler does the rest. Raises NotFound."""
        ...

    async def forget(self, environment: str) -> None:
        """Delete the record and all that hangs on it but events. Absent: fine."""
        ...

    async def revisions(self, environment: str) -> Sequence[Revision]: ...

    async def rollouts(self, environment: str, service: str) -> Sequence[Rollout]:
        """The last ones, oldest first."""
        ...

    async def latest_rollout(self, environment: str, service: str) -> Rollout:
        """Raises NotFound."""
        ...

    async def latest_rollouts(self, environment: str) -> dict[str, Rollout]:
        """The last one of each service that has had one."""
        ...

    async def put_rollout(self, rollout: Rollout, *, was: Rollout) -> None:
        """Write down how it has gone on. Raises Refused (it is no longer what it `was`)."""
        ...

    async def roll_back(
        self, rollout: Rollout, to: int, *, was: Rollout, reason: str, now: float
    ) -> Rollout:
        """Lead a service back to revision `to`, as one step: `rollout` is how its last one, which
        `was` so before, has ended; the service is declared as that revision was (how many there
        are, its ports and routes stay); a rollback begins for this `reason`, and is returned.

        Raises:
            Refused: the rollout is no longer what it was, or the environment is being removed.
            NotFound: no such revision, or the service is no longer declared.
        """
        ...

    async def instances(self, environment: str | None = None) -> Sequence[Instance]: ...

    async def create_instance(
        self, environment: str, service: str, revision: int, *, uuid: str, now: float
    ) -> Instance:
        """Take the next ordinal and free addresses, as one step; state pending."""
        ...

    async def put_instance(self, instance: Instance, *, decides_goal: bool = False) -> None:
        """Replace what is known of an instance that exists, but for its goal: an order that came
        while an action was under way must not be undone by that action's result. With
        `decides_goal` the goal too. A removal, once decided, stays. Raises NotFound."""
        ...

    async def set_goal(
        self,
        environment: str,
        goal: Goal,
        *,
        services: Collection[str] = (),
        instances: Collection[str] = (),
    ) -> Sequence[Instance]:
        """Give these instances (none named: all of the environment) another goal; those under
        removal keep theirs. Returns the instances changed. Raises NotFound (environment)."""
        ...

    async def delete_instance(
        self, environment: str, service: str, ordinal: int, *, now: float
    ) -> None:
        """Forget it; its addresses stay in quarantine for a while. Absent: fine."""
        ...

    async def disown(self, uuids: Collection[str], *, now: float) -> None:
        """Remember these as instances that are gone: a guest of one that turns up is removed."""
        ...

    async def disowned(self, uuids: Collection[str]) -> frozenset[str]:
        """Those of them that belonged to instances which are gone, deleted or disowned."""
        ...

    async def reserve_ordinal(self, environment: str, service: str, ordinal: int) -> None:
        """Never give out this ordinal nor one below it. No such environment: nothing to do."""
        ...

    async def volumes(self, environment: str | None = None) -> Sequence[Volume]:
        """Also those whose environment is gone: they wait for its next `up`."""
        ...

    async def claim_volumes(
        self, instance: Instance, mounts: Sequence[VolumeMount], sizes: Mapping[str, int]
    ) -> Sequence[Volume]:
        """Give `instance` the volumes that it mounts, in that order, all or none; until it is
        deleted nobody else gets them. Repeated, it gives the same. `sizes` are the declared ones.

        Raises:
            Refused: another instance still has one, or it is being removed.
        """
        ...

    async def note_made(self, volume: Volume) -> None:
        """It has a file now, which will be missed when it is gone."""
        ...

    async def remove_volumes(self, environment: str) -> None:
        """Mark all of them for removal, with or without a record of the environment.
        Raises NotFound: there are none."""
        ...

    async def forget_volume(self, volume: Volume) -> None:
        """Its file is gone. Absent: fine."""
        ...

    async def contents(self, environment: str, digests: Collection[str]) -> Mapping[str, bytes]:
        """Those of secrets and configs. Raises NotFound."""
        ...

    async def service_addresses(self, environment: str) -> dict[str, str]:
        """The stable inner address of each service of the environment."""
        ...

    async def add_event(
        self,
        kind: EventKind,
        message: str,
        *,
        now: float,
        environment: str,
        service: str = "",
        instance: str = "",
    ) -> Event: ...

    async def events(
        self, *, after: int = 0, environment: str | None = None, limit: int = 1000
    ) -> Sequence[Event]:
        """Events with an id above `after`, oldest first."""
        ...

    async def last_events(self, environment: str, subject: str, *, limit: int) -> Sequence[Event]:
        """The newest about an instance, or about a service and its instances, oldest first."""
        ...

    async def wait_for_event(self, after: int) -> None:
        """Return once an event with an id above `after` exists."""
        ...

    async def close(self) -> None: ...
