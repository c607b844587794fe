"""vmorch start."""

from __future__ import annotations

from vmorch.cli.goal_app import goal_app

app = goal_app(
    "start",
    "run",
    "Start what was stopped, wake what sleeps, and go on with what was paused; wait until it is "
    "ready.",
    ("vmorch start", "whatever is stopped, asleep or paused"),
    ("vmorch start orders-2", "one instance"),
)
