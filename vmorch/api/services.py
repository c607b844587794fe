"""What the API needs from the daemon; the composition root fills it in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from vmorch.config import Settings
from vmorch.effects import Clock
from vmorch.host.protocol import Host
from vmorch.hypervisor.protocol import Hypervisor
from vmorch.images.protocol import Images
from vmorch.metrics.history import History
from vmorch.model.access import Access
from vmorch.model.exec import ExecSessions
from vmorch.model.view import Check
from vmorch.planner.look import Look
from vmorch.snapshots.protocol import Snapshots
from vmorch.store.protocol import Store

__all__ = ["ApiServices", "Check"]


async def _nobody() -> list[str]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """`wake` makes the reconciler look at once; `checks` are the daemon's own findings for
    doctor; `give_up_unknown` has guests ended that no store knows, and names them;
    `ask_warm_up` (environment, service) has a warm snapshot made, `forgo_warm_up` (keys) lets none
    of these be made unasked;
    `last_look` is what the reconciler saw last (None: nothing yet), and answers at once;
    `history` has the measures;
    `accesses` are the last requests of the access log, `answer_times` (by environment and service)
    how long their answers took;
    `authority` is the certificate of the local authority, PEM; `is_presented` tells whether there
    is a certificate for a host;
    `shutdown` asks the daemon to end, and returns before it has."""

    store: Store
    host: Host
    images: Images
    hypervisor: Hypervisor
    exec_sessions: ExecSessions
    settings: Settings
    clock: Clock
    wake: Callable[[], None]
    checks: Callable[[], Awaitable[list[Check]]]
    shutdown: Callable[[], None]
    authority: Callable[[], str]
    is_presented: Callable[[str], bool]
    accesses: Callable[[], Awaitable[list[Access]]]
    answer_times: Callable[[], Awaitable[Mapping[tuple[str, str], Sequence[float]]]]
    snapshots: Snapshots
    history: History
    ask_warm_up: Callable[[str, str], None]
    forgo_warm_up: Callable[[Collection[str]], None]
    last_look: Callable[[], Look | None]
    give_up_unknown: Callable[[], Awaitable[list[str]]] = _nobody
