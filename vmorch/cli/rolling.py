"""Follows a rollout until it has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vmorch.cli.output import say
from vmorch.cli.stopped import overtaken, paused, went_back
from vmorch.cli.waiting import Absence
from vmorch.errors import DaemonUnreachable, NotFound, TimedOut

if TYPE_CHECKING:
    from vmorch.client import Client
    from vmorch.model.view.rollout import RolloutView

_POLL_SECONDS = 0.5


def follow(
    client: Client,
    rollout: RolloutView,
    *,
    timeout_seconds: float | None = None,
    poll_seconds: float = _POLL_SECONDS,
) -> RolloutView:
    """Tell how it goes on until it is completed, or until its canary has passed and waits.

    Raises:
        RolloutStopped: it was rolled back (or is itself the way back from one that failed), is
            paused, or was replaced by another. TimedOut.
    """
    deadline = time.monotonic() + timeout_seconds if timeout_seconds else None
    told: list[str] = []
    absence = Absence()
    while True:
        try:
            latest = client.rollout(rollout.environment, rollout.service)
            absence.ends()
            for line in latest.lines:
                if line not in told:
                    say(line)
            told = latest.lines
            if ended := _outcome(client, rollout, latest):
                return ended
        except DaemonUnreachable:
            if not absence.bearable():
                raise
        if deadline is not None and time.monotonic() >= deadline:
            raise TimedOut(
                f"The rollout of '{rollout.service}' had not ended within {timeout_seconds:.0f} s.",
                hint="It goes on in the background.",
            )
        time.sleep(poll_seconds)


def _outcome(client: Client, rollout: RolloutView, latest: RolloutView) -> RolloutView | None:
    """How it has ended well; None: it goes on. Raises RolloutStopped."""
    if latest.number != rollout.number:
        former = _numbered(client, rollout, rollout.number)
        if former.phase != "completed":
            raise overtaken(client, latest, rollout.revision)
        return former
    if latest.phase == "paused":
        raise paused(latest)
    if latest.phase == "completed" and latest.rollback:
        left = _numbered(client, latest, latest.number - 1)
        # A user's undo ends well; what came of itself tells of a revision that is bad.
        if left.phase == "failed":
            raise went_back(latest, left)
    return latest if latest.phase == "completed" or latest.canary_passed else None


def _numbered(client: Client, rollout: RolloutView, number: int) -> RolloutView:
    for one in client.rollouts(rollout.environment, rollout.service):
        if one.number == number:
            return one
    raise NotFound(
        f"Rollout {number} of '{rollout.service}' is no longer remembered.",
        hint=f"'vmorch rollout history {rollout.service}' lists those that are.",
    )
