"""Instances as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceView:
    """One row of `vmorch ps`. `address` is the one that the host reaches, `inner_address` the
    one that the guest sees; `restarts` counts starts after the first; `domain` is libvirt's;
    `exit_code` that of a service that has ended for good. `urls` are its service's: how the host
    reaches it by its routes, over HTTP and TLS."""

    environment: str
    service: str
    instance: str
    state: str
    ready: bool
    address: str
    inner_address: str
    revision: int
    image: str
    cpus: float
    vcpus: int
    memory_bytes: int
    ports: list[int]
    start: str
    created_at: float
    started_at: float | None
    ready_at: float | None
    restarts: int
    failures: int
    reason: str
    domain: str
    exit_code: int | None = None
    urls: list[str] = field(default_factory=list)
