"""Keeps the last look and what is under way since, for whoever asks why. It steers nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from vmorch.effects import Clock
from vmorch.planner.actions import ABOUT_ONE_INSTANCE, Action
from vmorch.planner.look import Look, UnderWay
from vmorch.planner.snapshot import Snapshot

Key = tuple[str, str, int] | str


class Looks:
    """`busy` is the reconciler's own: keys of subjects whose action has not ended."""

    def __init__(self, clock: Clock, busy: Collection[Key]) -> None:
        self._clock = clock
        self._busy = busy
        self._last: Look | None = None
        self._begun: dict[Key, UnderWay] = {}

    def take(self, snapshot: Snapshot) -> None:
        self._last = Look(snapshot=snapshot, at=self._clock.now())
        self._begun = {key: doing for key, doing in self._begun.items() if key in self._busy}

    def fail(self, trouble: str) -> None:
        """There is no newer one, and why."""
        if self._last is not None:
            self._last = replace(self._last, trouble=trouble)

    def begin(self, action: Action) -> None:
        if isinstance(action, ABOUT_ONE_INSTANCE):
            self._begun[action.instance.key] = UnderWay(action=action, since=self._clock.now())

    def hold(self, key: Key, failure: str, seconds: float) -> None:
        """An action failed; its subject is left alone for `seconds`."""
        if doing := self._begun.get(key):
            again_at = self._clock.now() + seconds
            self._begun[key] = replace(doing, failure=failure, again_at=again_at)

    def last(self) -> Look | None:
        if self._last is None:
            return None
        under_way = {
            key: doing
            for key, doing in self._begun.items()
            if key in self._busy and not isinstance(key, str)
        }
        return replace(self._last, under_way=under_way)
