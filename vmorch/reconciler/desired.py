"""How many instances of each service should be ready. Pure; the measures tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from vmorch.metrics.subject import ServiceKey
from vmorch.model.instance import Goal, Instance, State
from vmorch.store.protocol import EnvironmentRecord

_RESTING = frozenset({Goal.STOP, Goal.SLEEP, Goal.PAUSE})


def desired_counts(
    records: Iterable[EnvironmentRecord], instances: Sequence[Instance]
) -> dict[ServiceKey, int]:
    """As many as the file or the load asks for, without those that rest. What is being removed
    should have none."""
    resting = Counter((i.environment, i.service) for i in instances if _rests(i))
    return {
        (record.name, name): 0
        if record.removing
        else max(0, spec.replicas - resting[record.name, name])
        for record in records
        for name, spec in record.spec.services.items()
    }


def _rests(instance: Instance) -> bool:
    """Its user wants it so, or it has done its work. One that failed for good has not."""
    return instance.goal in _RESTING and instance.state is not State.FAILED
