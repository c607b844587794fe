"""Lines of the API's endless answers: logs and events."""

from __future__ import annotations

from dataclasses import dataclass


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
