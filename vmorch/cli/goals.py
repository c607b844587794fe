"""Stop, start, sleep, pause: what these commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vmorch.cli.output import say
from vmorch.errors import NotFound

if TYPE_CHECKING:
    from vmorch.client import Client
    from vmorch.model.view.instance import InstanceView

# goal -> the states in which it is reached
_REACHED = {
    "run": frozenset({"ready"}),
    "stop": frozenset({"stopped", "failed"}),
    "sleep": frozenset({"sleeping", "stopped", "failed"}),
    "pause": frozenset({"paused", "sleeping"}),
}


def reach(
    client: Client,
    environment: str,
    goal: str,
    names: Sequence[str],
    *,
    timeout: float | None,
    detach: bool = False,
) -> None:
    """Give services and instances (none named: all) a goal, and wait until they have reached it.

    Raises:
        NotFound: no environment, service or instance of that name. TimedOut. NotReady.
    """
    from vmorch.cli.progress import reporter
    from vmorch.cli.waiting import Limits, wait_for

    rows = client.set_goal(environment, goal, names)
    if not rows:
        say(f"'{environment}' has no such instances now.")
        return
    if detach:
        return
    with reporter() as report:
        wait_for(
            client,
            environment,
            report,
            names=frozenset(row.instance for row in rows),
            states=_REACHED[goal],
            limits=Limits(timeout_seconds=timeout),
        )


def chosen(client: Client, environment: str, names: Sequence[str]) -> list[InstanceView]:
    """The instances of these services and of these names (none named: all).

    Raises:
        NotFound: the environment, or one of the names.
    """
    rows = client.instances(environment)
    known = {row.service for row in rows} | {row.instance for row in rows}
    for name in names:
        if name not in known:
            raise NotFound(
                f"Environment '{environment}' has no instance of '{name}'.",
                hint=f"Its instances: {', '.join(row.instance for row in rows) or 'none'}.",
            )
    return [row for row in rows if not names or {row.service, row.instance} & set(names)]
