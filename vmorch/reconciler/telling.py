"""What actions on instances share: the domain's name, and the event that tells what was done."""

from __future__ import annotations

from vmorch.model.event import EventKind
from vmorch.model.instance import Instance
from vmorch.reconciler.parts import Parts


def domain_of(parts: Parts, instance: Instance) -> str:
    return parts.store.installation.domain(*instance.key)


async def tell(parts: Parts, kind: EventKind, instance: Instance, message: str) -> None:
    await parts.store.add_event(
        kind,
        message,
        now=parts.clock.now(),
        environment=instance.environment,
        service=instance.service,
        instance=instance.name,
    )
