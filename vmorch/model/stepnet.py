"""The network of build steps: the network package opens one, the images package runs in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNetwork:
    """Where `RUN` steps of one build live: a network namespace (a path for setns) with NAT to
    the outside and no way to the host, and the resolv.conf that works in it. `namespace` None:
    no network at all, the step gets an empty namespace. Steps must not keep CAP_NET_ADMIN:
    with it they could take the filter away."""

    namespace: Path | None
    resolv_conf: str = ""


# Opened once per build that has RUN steps.
OpenStepNetwork = Callable[[], AbstractAsyncContextManager[StepNetwork]]
