"""Which snapshots go: those without their image, and those that are too many."""

from __future__ import annotations

from collections.abc import Collection

from vmorch.snapshots.protocol import Snapshots, WarmSnapshot

WARM_TRIES = 2
"""How often a warm snapshot of one revision is tried unasked in the life of a daemon, and how often
one whose forks failed is made."""


async def keep_only(snapshots: Snapshots, images: Collection[str]) -> dict[str, int]:
    """Remove the snapshots of images that are gone; the keys of these, and the bytes freed. An
    image that is built again may come to other bytes, which their RAM does not know."""
    return {
        snapshot.key: await snapshots.remove(snapshot.key)
        for snapshot in await snapshots.all()
        if snapshot.image not in images
    }


async def keep_few(snapshots: Snapshots, count: int, needed: Collection[str]) -> list[WarmSnapshot]:
    """Remove those that are more than `count`, the longest unused first, but never one whose key
    is in `needed`; those that were removed."""
    present = await snapshots.all()
    free = sorted((s for s in present if s.key not in needed), key=lambda s: s.used_at)
    surplus = free[: max(0, len(present) - count)]
    for snapshot in surplus:
        await snapshots.remove(snapshot.key)
    return surplus
