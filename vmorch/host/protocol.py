"""What the daemon asks about its host."""

from __future__ import annotations

from typing import Protocol

from vmorch.model.host import HostView


class Host(Protocol):
    def view(self) -> HostView:
        """As it is now. Cheap enough for every cycle.

        Raises:
            VmorchError: it cannot be told.
        """
        ...
