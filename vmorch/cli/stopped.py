"""What is told of a rollout that goes on no further: it went back, was replaced, or is paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmorch.errors import VmorchError

if TYPE_CHECKING:
    from vmorch.client import Client
    from vmorch.model.view.rollout import RolloutView


class RolloutStopped(VmorchError):
    """Its revision is not, or not yet, what runs."""


def paused(rollout: RolloutView) -> RolloutStopped:
    service = rollout.service
    return RolloutStopped(
        f"The rollout of '{service}' to revision {rollout.revision} is paused: {rollout.reason}",
        hint=f"'vmorch rollout resume {service}' goes on, 'vmorch rollout undo {service}' "
        f"goes back{_logs(rollout, ', ')}.",
    )


def overtaken(client: Client, latest: RolloutView, revision: int) -> RolloutStopped:
    """The service is led by the rollout `latest` to something else than `revision`."""
    service = latest.service
    if not latest.rollback:
        return RolloutStopped(
            f"The rollout of '{service}' to revision {revision} was replaced by one to "
            f"revision {latest.revision}.",
            hint=f"'vmorch rollout history {service}' lists them.",
        )
    former = client.rollouts(latest.environment, service)
    left = next((one for one in former if one.number == latest.number - 1), None)
    return went_back(latest, left)


def went_back(back: RolloutView, left: RolloutView | None) -> RolloutStopped:
    """`left` is the rollout that `back` leads away from."""
    service = back.service
    logs = _logs(left, " and ") if left else ""
    return RolloutStopped(
        f"The rollout of '{service}' went back to revision {back.revision}: {back.reason}",
        hint=f"See 'vmorch rollout history {service}'{logs}.",
    )


def _logs(rollout: RolloutView, before: str) -> str:
    """Also of an instance that is gone."""
    return f"{before}'vmorch logs {rollout.failed[-1]}'" if rollout.failed else ""
