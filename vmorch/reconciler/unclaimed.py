"""Guests that no instance claims: told apart by whether this store once knew them.

What an interrupted removal left is ours to finish. What the store never knew may be all that is
left of an environment whose store was lost: it is reported, and removed when somebody says so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vmorch.hypervisor.protocol import Hypervisor, ObservedGuest
from vmorch.model.instance import Instance
from vmorch.store.protocol import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclaimed:
    """`leftovers` belonged to instances that are gone. `unknown` bear our owner, but this store
    never heard of them; `unreadable` have our prefix and no identity, and are never touched."""

    leftovers: tuple[ObservedGuest, ...] = ()
    unknown: tuple[ObservedGuest, ...] = ()
    unreadable: tuple[ObservedGuest, ...] = ()


async def sorted_out(
    guests: Sequence[ObservedGuest],
    instances: Sequence[Instance],
    store: Store,
    *,
    ignore: Collection[str] = (),
) -> Unclaimed:
    """`guests` must have been listed before `instances`. `ignore` are names of domains that are
    being ended."""
    claimed = {instance.uuid for instance in instances}
    free = [g for g in guests if g.uuid not in claimed and g.name not in ignore]
    ours = [guest for guest in free if guest.identity is not None]
    gone = await store.disowned([guest.uuid for guest in ours])
    return Unclaimed(
        leftovers=tuple(guest for guest in ours if guest.uuid in gone),
        unknown=tuple(guest for guest in ours if guest.uuid not in gone),
        unreadable=tuple(guest for guest in free if guest.identity is None),
    )


async def unclaimed_now(hypervisor: Hypervisor, store: Store) -> Unclaimed:
    """A look of its own, for `doctor` and the API."""
    guests = await hypervisor.guests()
    return await sorted_out(guests, await store.instances(), store)


async def give_up_unknown(hypervisor: Hypervisor, store: Store, now: float) -> list[str]:
    """Take guests that this store never knew for leftovers, so that the next cycle ends them;
    their domains' names. Unreadable ones stay."""
    unknown = (await unclaimed_now(hypervisor, store)).unknown
    await store.disown([guest.uuid for guest in unknown], now=now)
    return [guest.name for guest in unknown]
