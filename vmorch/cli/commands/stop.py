"""vmorch stop."""

from __future__ import annotations

from vmorch.cli.goal_app import goal_app

app = goal_app(
    "stop",
    "stop",
    "Shut guests down; they keep names, disks and addresses. 'vmorch start' goes on.",
    ("vmorch stop orders", "all instances of orders"),
    ("vmorch stop orders-2 db", "one instance, and all of db"),
)
