"""`start`: a word, or what a fork does with the service that already runs in it."""

from __future__ import annotations

from typing import NamedTuple

from vmorch.model.compose.forms import Choice
from vmorch.model.compose.nodes import Node
from vmorch.model.compose.objects import Either, Key, Object, Values
from vmorch.model.compose.reading import Reading
from vmorch.model.spec import StartMode, StartPolicy


class Start(NamedTuple):
    policy: StartPolicy
    keep_service: bool = False


class _Word(Choice):
    """One of the policies, as a Start."""

    def read(self, node: Node, path: str, reading: Reading) -> Start:  # type: ignore[override]
        return Start(StartPolicy(super().read(node, path, reading)))


def _forked(values: Values) -> Start:
    fork = values.get("fork")
    keep = fork is not None and fork.get("service") == "keep"
    return Start(StartPolicy.FORK, keep)


START = Either(
    scalar=_Word(tuple(StartPolicy), later=(StartMode.RESUME,)),
    fields=Object(
        name="start",
        build=_forked,
        keys={
            "fork": Key(
                Object(
                    name="fork",
                    keys={
                        "service": Key(
                            Choice(("restart", "keep")),
                            "What a fork does with the service that ran in the snapshot.",
                        )
                    },
                ),
                "Instances are forked from a warm snapshot.",
                required=True,
            )
        },
    ),
)
