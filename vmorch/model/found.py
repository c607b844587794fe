"""A guest that runs, as it is found when nothing is remembered of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundGuest:
    """What its domain says: whose it is, and where it stands. `network_index` and `host_number`
    are its environment's and the last byte of its address; `subnet` is empty when unknown.
    `cpus` is the cap that it runs under now."""

    environment: str
    service: str
    ordinal: int
    revision: int
    image: str
    boot: int
    uuid: str
    network_index: int
    host_number: int
    subnet: str
    cpus: float
    memory_bytes: int
