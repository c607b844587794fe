"""Rollouts beside a table of instances: what a reader of it would otherwise not see."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from vmorch.errors import NotFound

if TYPE_CHECKING:
    from vmorch.client import Client
    from vmorch.model.view.rollout import RolloutView


def told_rollouts(client: Client, environment: str, services: Collection[str]) -> Iterator[str]:
    """A line for each of `services` that is on its way to another revision, or was led back."""
    try:
        latest = client.latest_rollouts(environment)
    except NotFound:  # It was removed since its instances were listed.
        return
    for rollout in latest:
        if rollout.service in services and _is_telling(rollout) and rollout.lines:
            yield f"{rollout.service}: {rollout.lines[0]}"


def _is_telling(rollout: RolloutView) -> bool:
    """The first start of a service is none to tell of."""
    is_first_start = rollout.number == 1 and rollout.phase == "running"
    return rollout.rollback or (rollout.is_open and not is_first_start)


def without_canary(client: Client, environment: str, services: Collection[str]) -> Iterator[str]:
    """A line for each of `services` whose new revision did not get the canary that was asked
    for."""
    for rollout in client.latest_rollouts(environment):
        if rollout.service in services and rollout.is_open and rollout.canary is None:
            why = (
                "no earlier revision of it was rolled out whole"
                if rollout.previous is None
                else "its rollout was under way already"
            )
            yield f"'{rollout.service}' gets no canary: {why}."
