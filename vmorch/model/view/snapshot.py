"""Warm snapshots as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotUseView:
    """A revision whose new instances are forked from a snapshot. `current`: it is the declared
    one; others still have instances."""

    environment: str
    service: str
    revision: int
    current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotView:
    """`with_service`: the service ran in it. `used_by` spans environments: all that have the very
    same service share it."""

    key: str
    service: str
    image: str
    with_service: bool
    ram_bytes: int
    disk_bytes: int
    created_at: float
    used_at: float
    used_by: list[SnapshotUseView]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedSnapshotsView:
    """The keys of what was removed. A disk that forks stand on is freed with the last of them."""

    keys: list[str]
    bytes_freed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUpView:
    """What `key` a service's snapshot has or will have. `made`: it is there."""

    key: str
    made: bool
