"""`environment:`, `env_file:`, `labels:`, `extra_hosts:` and `depends_on:`."""

from __future__ import annotations

from typing import NamedTuple

from vmorch.model.compose.containers import ListOf, MapOf, OneOrMany
from vmorch.model.compose.forms import BOOLEAN, VALUE, Choice, Word
from vmorch.model.compose.nodes import Field, Fields, Node, Scalar
from vmorch.model.compose.objects import Key, Object, Values
from vmorch.model.spec import DependencyCondition


class EnvFile(NamedTuple):
    """`raw` takes every value as it stands, without quotes and variables."""

    path: str
    required: bool = True
    raw: bool = False


def _short(node: Node) -> Node:
    if not isinstance(node, Scalar):
        return node
    return Fields(node.mark, {"path": Field(node.mark, node)}, node.tag)


def _env_file(values: Values) -> EnvFile:
    raw = values.get("format") == "raw"
    return EnvFile(values.get("path", ""), values.get("required", True), raw)


def _address(text: str) -> str:
    if text == "host-gateway":
        raise ValueError("'host-gateway' is refused: guests cannot reach the host.")
    return text.removeprefix("[").removesuffix("]")


ENVIRONMENT = MapOf(VALUE, r"[^=\s]+", "the name of a variable", "=", nullable=True)
LABELS = MapOf(VALUE, r"[^=\s]+", "the name of a label", "=", nullable=True)
ENV_FILE = OneOrMany(
    ListOf(
        Object(
            name="env_file",
            short=(Word("a path", r"[^\n]+"), _short),
            build=_env_file,
            keys={
                "path": Key(Word("a path", r"[^\n]+"), "The file.", required=True),
                "required": Key(BOOLEAN, "false: the file may be absent."),
                "format": Key(Choice(("raw",)), "raw: no quotes and no variables."),
            },
        )
    )
)
EXTRA_HOSTS = MapOf(
    Word("an IP address", r"[0-9a-fA-F:.]{3,45}|\[[0-9a-fA-F:.]{3,45}\]|host-gateway", _address),
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?",
    "a host name",
    "=:",
)
DEPENDS_ON = MapOf(
    Object(
        name="dependency",
        empty=True,
        build=lambda values: DependencyCondition(
            values.get("condition", DependencyCondition.STARTED)
        ),
        keys={
            "condition": Key(
                Choice(tuple(condition.value for condition in DependencyCondition)),
                "What must be true of the other service first.",
            ),
            "required": Key(BOOLEAN, "false: the other service may be absent."),
            "restart": Key(BOOLEAN, "true: restarted with the other service."),
        },
    ),
    r"[^\s]+",
    "the name of a service",
    "",
)
