"""How many instances services have that scale by themselves, where a user says something else.
Pure; the store decides by it, and the API foretells what the store will do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from vmorch.errors import Refused
from vmorch.model.schedule import floor_at, floor_text, least_at
from vmorch.model.spec import EnvironmentSpec, ServiceSpec


def counted(
    spec: EnvironmentSpec,
    old: EnvironmentSpec | None,
    *,
    now: float,
    by_hand: Collection[str] = (),
) -> EnvironmentSpec:
    """`spec` with the numbers that hold once it is applied over `old`: a service that scales by
    itself keeps the number that it has, and a new one begins with what the file says, both within
    its bounds. Of services in `by_hand` the number in `spec` is a user's order.

    Raises:
        Refused: an order is not within the bounds that hold `now`.
    """
    services = {}
    for name, service in spec.services.items():
        if name in by_hand:
            refuse_outside(service, service.replicas, now=now)
            services[name] = service
        else:
            before = old.services.get(name) if old else None
            services[name] = replace(service, replicas=_count(service, before))
    return replace(spec, services=services)


def at_least(spec: EnvironmentSpec, *, by_hand: Collection[str] = ()) -> EnvironmentSpec:
    """`spec` with the fewest awake instances that services may come to have by themselves, but for
    those in `by_hand`: more of them than the host can have wait for room, and hinder nobody."""
    services = {
        name: replace(service, replicas=service.autoscale.at_first(0))
        if service.autoscale is not None and name not in by_hand
        else service
        for name, service in spec.services.items()
    }
    return replace(spec, services=services)


def refuse_outside(service: ServiceSpec, count: int, *, now: float) -> None:
    """Raises Refused when a service that scales by itself cannot have so many instances `now`: its
    next decision would undo it."""
    bounds = service.autoscale
    if bounds is None or least_at(bounds, now) <= count <= bounds.max:
        return
    floor = floor_at(bounds.schedule, now)
    held = floor is not None and bounds.min <= count < bounds.max
    why = f"The schedule asks for {floor_text(floor)}. " if floor and held else ""
    raise Refused(
        f"'{service.name}' scales by itself, from {least_at(bounds, now)} to {bounds.max} "
        f"instances, so it cannot have {count}.",
        hint=f"{why}Change 'autoscale' of '{service.name}' in the vmorch file, then 'vmorch up'.",
    )


def awake(service: ServiceSpec, now: float) -> int:
    """How many instances a service that sleeps has when it is woken `now`."""
    return max(1, least_at(service.autoscale, now)) if service.autoscale else 1


def _count(service: ServiceSpec, before: ServiceSpec | None) -> int:
    if service.autoscale is None:
        return service.replicas
    if before is None:
        return service.autoscale.at_first(service.replicas)
    return service.autoscale.bounded(before.replicas)
