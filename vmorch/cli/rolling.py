"""Follows a rollout until it has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from vmorch.cli.output import say
from vmorch.cli.waiting import Absence
from vmorch.errors import DaemonUnreachable, TimedOut, VmorchError

if TYPE_CHECKING:
    from vmorch.client import Client
    from vmorch.model.view.rollout import RolloutView

_POLL_SECONDS = 0.5


class RolloutFailed(VmorchError):
    """It did not end well, or waits for a user."""


def follow(
    client: Client,
    rollout: RolloutView,
    *,
    timeout_seconds: float | None = None,
    poll_seconds: float = _POLL_SECONDS,
) -> RolloutView:
    """Tell how it goes on until it is completed, or until its canary has passed and waits.

    Raises:
        RolloutFailed: it was rolled back, paused or replaced by another. TimedOut.
    """
    deadline = time.monotonic() + timeout_seconds if timeout_seconds else None
    told: list[str] = []
    absence = Absence()
    while True:
        try:
            now = _same(client, rollout)
            absence.ends()
        except DaemonUnreachable:
            if not absence.bearable():
                raise
            time.sleep(poll_seconds)
            continue
        for line in now.lines:
            if line not in told:
                say(line)
        told = now.lines
        if now.phase == "completed" or (now.canary is not None and now.passed):
            return now
        if now.phase != "running":
            raise RolloutFailed(
                f"The rollout of '{now.service}' to revision {now.revision} is {now.phase}: "
                f"{now.reason}",
                hint=f"See 'vmorch rollout status {now.service}' and 'vmorch why {now.service}'.",
            )
        if deadline is not None and time.monotonic() >= deadline:
            raise TimedOut(
                f"The rollout of '{now.service}' had not ended within {timeout_seconds:.0f} s.",
                hint="It goes on in the background.",
            )
        time.sleep(poll_seconds)


def _same(client: Client, rollout: RolloutView) -> RolloutView:
    """As it is now, also when another one has begun since."""
    latest = client.rollout(rollout.environment, rollout.service)
    if latest.number == rollout.number:
        return latest
    former = client.rollouts(rollout.environment, rollout.service)
    return next(one for one in former if one.number == rollout.number)
