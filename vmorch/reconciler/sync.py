"""What follows from the store without a decision: networks, names, proxy, probes.

Each is told the whole of what should be, in every cycle; adapters do nothing when nothing changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from vmorch.errors import NotFound, VmorchError, of_the_disk
from vmorch.health.protocol import Target
from vmorch.model.event import EventKind
from vmorch.model.image import ImageManifest
from vmorch.model.instance import Instance, State
from vmorch.model.spec import ServiceSpec
from vmorch.reconciler.checks import check_port, effective_check, ports_of
from vmorch.reconciler.observe import Memory, Observed
from vmorch.reconciler.parts import Parts
from vmorch.reconciler.routing import Routed, names
from vmorch.reconciler.serving import Serving
from vmorch.reconciler.telling import domain_of
from vmorch.reconciler.unclaimed import Unclaimed
from vmorch.store.protocol import EnvironmentRecord

log = structlog.get_logger("vmorch.sync")

PROBED = frozenset({State.RUNNING, State.READY})


class Sync:
    """`networks` runs before the plan (a guest needs its bridge), `traffic` after it."""

    def __init__(self, parts: Parts, memory: Memory, *, time_scale: float) -> None:
        self._parts = parts
        self._memory = memory
        self._time_scale = time_scale
        self._manifests: dict[str, ImageManifest] = {}
        self._served: dict[str, EnvironmentRecord] = {}
        self._serving = Serving(parts)
        self._reported: set[str] = set()

    async def networks(self, observed: Observed) -> None:
        """Networks of environments are made or mended; those of nobody are taken away."""
        await self._report_unclaimed(observed.unclaimed)
        wanted = {record.network.index for record in observed.environments}
        for index in observed.network_indices:
            # An unknown guest's network may be the one that nobody wants.
            if index not in wanted and not observed.unclaimed.unknown:
                log.info("removing a stray network", index=index)
                await self._parts.network.remove(index)
        await self._ensure([r for r in observed.environments if r.name not in self._memory.busy])

    async def _report_unclaimed(self, unclaimed: Unclaimed) -> None:
        """Once in a daemon's life; and the ordinals of unknown guests are not given out again."""
        for guest in (*unclaimed.unknown, *unclaimed.unreadable):
            if guest.name in self._reported:
                continue
            self._reported.add(guest.name)
            identity = guest.identity
            await self._parts.store.add_event(
                EventKind.UNKNOWN_GUEST,
                f"{guest.name} runs, but this store does not know it; it is left alone. "
                "'vmorch doctor' says what to do.",
                now=self._parts.clock.now(),
                environment=identity.environment if identity else "",
            )
        for guest in unclaimed.unknown:
            if (one := guest.identity) is not None:
                await self._parts.store.reserve_ordinal(one.environment, one.service, one.ordinal)

    async def _ensure(self, records: Sequence[EnvironmentRecord]) -> None:
        """One environment's trouble must not keep the others from running; the host's is that of
        all, as nothing may flow without its rules."""
        if not records:
            return
        try:
            await self._parts.network.ensure_host()
        except (VmorchError, OSError) as error:
            for record in records:
                self._not_ready(record, error)
        else:
            for record in records:
                await self._ensure_one(record)

    def _not_ready(self, record: EnvironmentRecord, raised: VmorchError | OSError) -> None:
        error = of_the_disk(raised) if isinstance(raised, OSError) else raised
        self._memory.networks.pop(record.name, None)
        self._memory.network_trouble[record.name] = error.message
        log.warning("network not ready", environment=record.name, error=error.message)

    async def _ensure_one(self, record: EnvironmentRecord) -> None:
        addresses = await self._parts.store.service_addresses(record.name)
        try:
            await self._parts.network.ensure(record.network, list(addresses.values()))
        except (VmorchError, OSError) as error:
            self._not_ready(record, error)
        else:
            self._memory.network_trouble.pop(record.name, None)
            self._memory.networks[record.name] = record.version
            self._served[record.name] = record

    async def traffic(self) -> bool:
        """Names, proxy and probes, from the store as the actions left it.

        Returns whether the proxy was told something new: then there may be more to plan, such
        as the shutdown of what now drains."""
        records = {record.name: record for record in await self._parts.store.environments()}
        self._served = {name: last for name, last in self._served.items() if name in records}
        # What an order of this very moment changed is served once the network fits it, and a
        # network that cannot be mended just now costs no traffic: until then, as before.
        environments = [
            await self._routed(replace(served, removing=records[name].removing))
            for name, served in sorted(self._served.items())
        ]
        self._parts.prober.watch([t for env in environments for t in self._targets(env)])
        for environment in environments:
            await self._name(environment)
            await self._parts.faults.at("sync:names")
        served = await self._serving.serve(environments)
        changed = served != self._memory.told
        self._memory.told = served
        return changed

    async def _name(self, environment: Routed) -> None:
        """Names that cannot be written for one environment are no reason to hold up the others."""
        try:
            await self._parts.network.set_names(environment.record.network, names(environment))
        except (VmorchError, OSError) as error:
            log.warning("names not told", environment=environment.record.name, error=str(error))

    async def _routed(self, record: EnvironmentRecord) -> Routed:
        revisions = await self._parts.store.revisions(record.name)
        for image in {one.spec.image for one in revisions}:
            await self._remember_manifest(image)
        instances = await self._parts.store.instances(record.name)
        own = {(one.service, one.number): one.spec for one in revisions}
        own |= {(service, number): spec for (_, service, number), spec in record.declared.items()}
        addresses = await self._parts.store.service_addresses(record.name)
        # What is served until the network fits the newest order may have a service that this
        # order has taken away, address and all.
        services = {name: s for name, s in record.spec.services.items() if name in addresses}
        record = replace(record, spec=replace(record.spec, services=services))
        return Routed(
            record=record,
            instances=instances,
            revisions={one.key: own[one.service, one.revision] for one in instances},
            rollouts=await self._parts.store.latest_rollouts(record.name),
            service_addresses=addresses,
            ports={name: self._ports(spec) for name, spec in record.spec.services.items()},
        )

    async def _remember_manifest(self, digest: str) -> None:
        if digest in self._manifests:
            return
        try:
            self._manifests[digest] = await self._parts.images.manifest(digest)
        except NotFound as error:
            log.warning("image is gone", image=digest, error=error.message)

    def _ports(self, spec: ServiceSpec) -> tuple[int, ...]:
        return ports_of(spec, self._manifests.get(spec.image))

    def _targets(self, environment: Routed) -> Sequence[Target]:
        """Every instance whose guest should answer."""
        return [
            self._target(environment, instance)
            for instance in environment.instances
            if instance.state in PROBED and instance.service in environment.record.spec.services
        ]

    def _target(self, environment: Routed, instance: Instance) -> Target:
        """What its guest is asked, and can answer, is what its own revision says, which may be an
        older one than the declared."""
        revision = environment.revisions[instance.key]
        manifest = self._manifests.get(revision.image)
        supports = manifest.boot.supports if manifest else frozenset()
        check = effective_check(revision, manifest)
        return Target(
            key=(instance.environment, instance.name, instance.boot),
            domain=domain_of(self._parts, instance),
            address=instance.outer_address,
            port=check_port(check, ports_of(revision, manifest)),
            check=check,
            has_agent="agent" in supports,
            wants_cloud_init=revision.cloud_init is not None,
            time_scale=self._time_scale,
        )
