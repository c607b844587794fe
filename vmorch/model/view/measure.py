"""Measures as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass

from vmorch.model.use import InstanceUse, Latency, ServiceUse, Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredInstance:
    """An instance in the last look; `cpus` and `memory_bytes` are what it may use."""

    environment: str
    service: str
    instance: str
    ready: bool
    cpus: float
    memory_bytes: int
    now: InstanceUse
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredService:
    """A service in the last look; `latency` is None where no request is logged."""

    environment: str
    service: str
    now: ServiceUse
    totals: Totals
    latency: Latency | None = None
