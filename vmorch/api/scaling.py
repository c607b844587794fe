"""How many instances services have, on a user's word: what is refused, written down and told."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vmorch.api.admission import refuse_too_large
from vmorch.api.preview import with_replicas
from vmorch.api.services import ApiServices
from vmorch.model.counts import at_least, awake
from vmorch.model.event import EventKind
from vmorch.model.spec import EnvironmentSpec
from vmorch.store.protocol import EnvironmentRecord


def refuse_growth(
    services: ApiServices, spec: EnvironmentSpec, replicas: Mapping[str, int]
) -> None:
    """Raises Refused beyond the host. What is made smaller may still be too large: each step
    helps."""
    after = with_replicas(spec, replicas)
    if any(after.services[name].replicas > old.replicas for name, old in spec.services.items()):
        refuse_too_large(at_least(after, by_hand=replicas), services.host.view())


async def scale_by_hand(
    services: ApiServices, name: str, replicas: Mapping[str, int]
) -> EnvironmentRecord:
    """Raises NotFound, Refused."""
    before = await services.store.environment(name)
    refuse_growth(services, before.spec, replicas)
    record = await services.store.scale(name, replicas, now=services.clock.now())
    await tell_scaled(services, before.spec, record, "by hand")
    return record


async def wake_up(services: ApiServices, record: EnvironmentRecord, names: Collection[str]) -> None:
    """Those of these services that sleep as nobody asks for them: their instances, though told to
    run, would go to sleep again at once."""
    now = services.clock.now()
    declared = [record.spec.services[name] for name in names if name in record.spec.services]
    asleep = {spec.name: awake(spec, now) for spec in declared if spec.is_asleep}
    if asleep:
        after = await services.store.scale(record.name, asleep, now=now)
        await tell_scaled(services, record.spec, after, "by 'start'")


async def tell_scaled(
    services: ApiServices, old: EnvironmentSpec, record: EnvironmentRecord, by: str
) -> None:
    """An event for each service of both that has another number of instances now."""
    for name, service in record.spec.services.items():
        before = old.services.get(name)
        if before is not None and before.replicas != service.replicas:
            await services.store.add_event(
                EventKind.SERVICE_SCALED,
                f"Scaled from {before.replicas} to {service.replicas} {by}.",
                now=services.clock.now(),
                environment=record.name,
                service=name,
            )
