"""Environments as the API shows them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """`replicas` is how many instances it should have; `min_replicas` and `max_replicas` bound that
    number where it follows the load, and are None where it does not. `routes` are URLs as the host
    reaches them, by HTTP and by TLS; `published` is ADDRESS:PORT->TARGET/PROTOCOL."""

    replicas: int
    revision: int
    image: str
    min_replicas: int | None = None
    max_replicas: int | None = None
    routes: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentView:
    name: str
    version: int
    services: dict[str, ServiceView]
    subnet: str
    created_at: float
    removing: bool
    expires_at: float | None
    holder: str | None
