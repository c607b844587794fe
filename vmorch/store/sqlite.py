"""The store in one SQLite file, written by one daemon: the tables together, as one `Store`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import MappingProxyType

from vmorch.model.names import Installation
from vmorch.store.database import Database
from vmorch.store.environments import Environments
from vmorch.store.events import Events
from vmorch.store.exclusive import IsFree, OwnEndpoints, always_free
from vmorch.store.instances import Instances
from vmorch.store.rollouts import Rollouts
from vmorch.store.volumes import Volumes


async def no_subnets() -> Sequence[str]:
    return ()


class SqliteStore:
    """See `vmorch.store.protocol.Store`.

    Raises:
        StoreError: the file is no database of ours, is damaged, or a newer vmorch wrote it.
    """

    def __init__(
        self,
        path: Path | str,
        installation: Installation,
        *,
        outer_pool: str,
        inner_subnet: str,
        taken_subnets: Callable[[], Awaitable[Sequence[str]]] = no_subnets,
        port_is_free: IsFree = always_free,
        publish_address: str = "127.0.0.1",
        own_endpoints: OwnEndpoints = MappingProxyType({}),
    ) -> None:
        self._db = Database(path)
        self.installation = installation
        environments = Environments(
            self._db,
            outer_pool=outer_pool,
            inner_subnet=inner_subnet,
            taken_subnets=taken_subnets,
            port_is_free=port_is_free,
            publish_address=publish_address,
            own_endpoints=own_endpoints,
        )
        self.environments = environments.environments
        self.environment = environments.environment
        self.apply = environments.apply
        self.scale = environments.scale
        self.remove = environments.remove
        self.forget = environments.forget
        self.revisions = environments.revisions
        self.service_addresses = environments.service_addresses
        self.roll_back = environments.roll_back
        rollouts = Rollouts(self._db)
        self.rollouts = rollouts.rollouts
        self.latest_rollout = rollouts.latest_rollout
        self.latest_rollouts = rollouts.latest_rollouts
        self.put_rollout = rollouts.put_rollout
        instances = Instances(self._db, environments, installation)
        self.instances = instances.instances
        self.create_instance = instances.create_instance
        self.put_instance = instances.put_instance
        self.delete_instance = instances.delete_instance
        self.set_goal = instances.set_goal
        self.disown = instances.disown
        self.disowned = instances.disowned
        self.reserve_ordinal = instances.reserve_ordinal
        volumes = Volumes(self._db)
        self.volumes = volumes.volumes
        self.claim_volumes = volumes.claim_volumes
        self.note_made = volumes.note_made
        self.remove_volumes = volumes.remove_volumes
        self.forget_volume = volumes.forget_volume
        self.contents = volumes.contents
        events = Events(self._db)
        self.add_event = events.add_event
        self.last_events = events.last_events
        self.events = events.events
        self.wait_for_event = events.wait_for_event

    async def close(self) -> None:
        self._db.close()
