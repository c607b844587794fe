"""vmorch pause."""

from __future__ import annotations

from vmorch.cli.goal_app import goal_app

app = goal_app(
    "pause",
    "pause",
    "Freeze guests where they are: no CPU time, memory kept. 'vmorch unpause' goes on.",
    ("vmorch pause orders-1", "one instance"),
    ("vmorch pause -p shop", "the whole environment"),
)
