"""Asks for a warm snapshot, and waits until it is made or has failed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vmorch.cli.output import say
from vmorch.cli.waiting import Absence, Limits
from vmorch.errors import DaemonUnreachable, NotFound, TimedOut, VmorchError

if TYPE_CHECKING:
    from vmorch.client import Client
    from vmorch.model.view.snapshot import SnapshotView

_SECONDS = 120.0
"""A boot slot, the boot and the save under KVM, with room to spare."""


def make(client: Client, environment: str, service: str, limits: Limits) -> SnapshotView:
    """The snapshot of the service as it is declared, once it is there.

    Raises:
        NotFound, Refused: there can be none. VmorchError: the try failed. TimedOut.
    """
    since, after = time.time(), 0
    asked = client.make_snapshot(environment, service)
    if not asked.made:
        say(f"{service}: waits for its turn to boot")
    seconds = limits.timeout_seconds or _SECONDS * client.acceleration().time_scale
    deadline = time.monotonic() + seconds
    absence = Absence()
    while True:
        try:
            # In this order: it has begun before it is there.
            found = _current(client, environment, service)
            after = _told(client, environment, service, after, since)
            if found is not None:
                return found
            if absence.ends():
                client.make_snapshot(environment, service)  # a daemon forgets wishes with its end
        except DaemonUnreachable:
            if not absence.bearable():
                raise
        if time.monotonic() >= deadline:
            raise TimedOut(
                f"There was no warm snapshot of '{service}' within {seconds:.0f} s.",
                hint="It goes on in the background: see 'vmorch events' and 'vmorch snapshot ls', "
                "or allow more with --timeout SECONDS.",
            )
        time.sleep(limits.poll_seconds)


def _told(client: Client, environment: str, service: str, after: int, since: float) -> int:
    """Say that it has begun; the last event's number. Raises VmorchError: it has failed."""
    since_when = None if after else since
    events = client.events(
        after=after, environment=environment, subjects=[service], since=since_when
    )
    for event in events:
        after = event.id
        if event.kind == "snapshot-failed":
            raise VmorchError(
                f"No warm snapshot of '{service}' could be made: {event.message}",
                hint="'vmorch help forks' says what it takes; 'start: cold' does without.",
            )
        if event.kind == "snapshot-begun":
            say(f"{service}: {event.message}")
    return after


def _current(client: Client, environment: str, service: str) -> SnapshotView | None:
    """Raises NotFound: the service is gone."""
    if service not in client.environment(environment).services:
        raise NotFound(
            f"Environment '{environment}' has no service '{service}' any more.",
            hint="Somebody has changed it meanwhile: see 'vmorch events'.",
        )
    for snapshot in client.snapshots():
        for use in snapshot.used_by:
            if (use.environment, use.service, use.current) == (environment, service, True):
                return snapshot
    return None
