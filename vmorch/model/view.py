"""What the API shows and the client reads: flat values, made for people, scripts and tables.

Sizes are bytes, times seconds since the epoch. No field ever carries a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceView:
    """One row of `vmorch ps`. `address` is the one that the host reaches, `inner_address` the
    one that the guest sees; `restarts` counts starts after the first; `domain` is libvirt's."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """`routes` are URLs as the host reaches them, `published` is ADDRESS:PORT->TARGET/PROTOCOL."""

    replicas: int
    revision: int
    image: str
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    digest: str
    names: list[str]
    base: str
    size_bytes: int
    own_bytes: int
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    version: str
    api: str
    installation: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccelerationView:
    """`time_scale` is how much longer guests take than under KVM."""

    acceleration: str
    time_scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildLine:
    """One line of a build's story: step `number` of `total`. `state` is started, output, cached,
    done or failed; `text` is output or an error; `seconds` counts at the step's end."""

    step: str
    number: int
    total: int
    state: str
    text: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """See `vmorch.model.event.Event`; `kind` is a string, as a newer daemon may know more."""

    id: int
    time: float
    environment: str
    service: str
    instance: str
    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """`time` is None where the guest did not say one (the console)."""

    instance: str
    time: float | None
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding of `vmorch doctor`; `hint` says what to do when it is not ok."""

    name: str
    ok: bool
    message: str
    hint: str = ""


def view_of(kind: type[T], document: dict[str, Any]) -> T:
    """`document` as a `kind`, without the fields that a newer daemon may have added."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in document.items() if key in known})
