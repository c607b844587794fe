"""From sketches of services to what a store is given."""

from __future__ import annotations

from dataclasses import replace

from vmorch.model.autoscale import AutoscaleSpec
from vmorch.model.rollout import UpdateConfig
from vmorch.model.spec import (
    EnvironmentSpec,
    RestartPolicy,
    ServiceSpec,
    VolumeMount,
    VolumeSpec,
)
from vmorch.simulation.steps import Health, Sketch, Volume
from vmorch.simulation.world import World
from vmorch.store.protocol import EnvironmentRecord

EDITIONS = 3
VOLUME_BYTES = 2**26
IDLING = AutoscaleSpec(min=0, max=4, idle_seconds=60.0)
WELL_SECONDS = {Health.NEVER: 0.0, Health.SICKENS: 12.0}


class Drafts:
    """With the images that a world has: of each health one for each edition."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._images = {
            (health, edition): world.image(f"{health}{edition}")
            for health in Health
            for edition in range(EDITIONS)
        }
        self._good = self._images[Health.GOOD, 0]
        for (health, _), image in self._images.items():
            if health in WELL_SECONDS:
                world.bad_images[image] = WELL_SECONDS[health]

    def environment(self, name: str, sketches: tuple[Sketch, ...]) -> EnvironmentSpec:
        services = {sketch.name: self._service(sketch) for sketch in sketches}
        mounts = [mount for service in services.values() for mount in service.volumes]
        volumes = {mount.source: VolumeSpec(size_bytes=VOLUME_BYTES) for mount in mounts}
        return EnvironmentSpec(name=name, services=services, volumes=volumes)

    def _service(self, sketch: Sketch) -> ServiceSpec:
        way = UpdateConfig(
            order=sketch.order,
            parallelism=sketch.parallelism,
            monitor_seconds=sketch.monitor,
            failure_action=sketch.on_failure,
        )
        return ServiceSpec(
            name=sketch.name,
            image=self._images[sketch.health, sketch.edition],
            replicas=sketch.replicas,
            cpus=sketch.cpus,
            expose=(80,),
            stop_grace_period_seconds=sketch.grace,
            restart=RestartPolicy(
                condition=sketch.condition,
                delay_seconds=sketch.delay,
                max_attempts=sketch.attempts,
            ),
            start=sketch.start,
            volumes=_mounts(sketch),
            depends_on=dict(sketch.needs),
            update=way,
            autoscale=IDLING if sketch.idles else None,
        )

    async def mend(self, record: EnvironmentRecord) -> None:
        """Declare a good image where there is a bad one, as a user would in the end."""
        bad = self._world.bad_images
        services = {
            name: replace(service, image=self._good) if service.image in bad else service
            for name, service in record.spec.services.items()
        }
        if services != record.spec.services and not record.removing:
            spec = replace(record.spec, services=services)
            await self._world.store.apply(spec, now=self._world.clock.now())


def _mounts(sketch: Sketch) -> tuple[VolumeMount, ...]:
    if sketch.volume is Volume.NONE:
        return ()
    source = f"{sketch.name}-{sketch.volume}"
    each = sketch.volume is Volume.EACH
    return (VolumeMount(source=source, target="/srv", per_instance=each),)
