"""A host as a test wants it; `seen` may be replaced at any time."""

from __future__ import annotations

from dataclasses import dataclass

from vmorch.model.host import BOUNDLESS, HostView


@dataclass(slots=True)
class FakeHost:
    seen: HostView = BOUNDLESS

    def view(self) -> HostView:
        return self.seen
