"""`cloud_init:`: user data as text, as a mapping that becomes #cloud-config, or in a file."""

from __future__ import annotations

from typing import NamedTuple

import yaml

from vmorch.model.compose.forms import Form, Schema, Word
from vmorch.model.compose.nodes import Fields, Node, Scalar, describe, to_plain
from vmorch.model.compose.objects import Either
from vmorch.model.compose.reading import Reading, Wrong

# What cloud-init knows user data by; anything else it ignores without a word.
HEADERS = (
    "#cloud-config",
    "#!",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    "## template: jinja",
    "Content-Type:",
    "MIME-Version:",
)


class UserData(NamedTuple):
    """Either the text itself or the path of a file that holds it."""

    text: str = ""
    file: str = ""


def check_header(text: str) -> str:
    """The text, when cloud-init would do something with it.

    Raises:
        ValueError: it would not.
    """
    if not text.startswith(HEADERS):
        raise ValueError(
            "cloud-init ignores data that does not begin with '#cloud-config', '#!' or another "
            "of its headers."
        )
    return text


class _Config(Form):
    expects = "a mapping"

    def read(self, node: Node, path: str, reading: Reading) -> UserData:
        if not isinstance(node, Fields):
            raise Wrong(f"Expected a mapping, found {describe(node)}.")
        if "file" in node.fields:
            return self._file(node)
        text = yaml.safe_dump(to_plain(node), sort_keys=False, allow_unicode=True)
        return UserData(text=f"#cloud-config\n{text}")

    def _file(self, node: Fields) -> UserData:
        found = node.fields["file"]
        if len(node.fields) > 1:
            raise Wrong("'file' stands alone: the file holds all of the data.", found.key_mark)
        if not (isinstance(found.node, Scalar) and isinstance(found.node.value, str)):
            raise Wrong(f"Expected a path, found {describe(found.node)}.", found.mark)
        return UserData(file=found.node.text)

    def schema(self) -> Schema:
        file = {
            "properties": {"file": {"type": "string"}},
            "required": ["file"],
            "additionalProperties": False,
        }
        return {"type": "object", "anyOf": [{"not": {"required": ["file"]}}, file]}


_BEGINNING = "|".join(HEADERS)
CLOUD_INIT = Either(
    scalar=Word(
        "user data that begins with '#cloud-config', '#!' or another header of cloud-init",
        rf"(?:{_BEGINNING})[\s\S]*",
        lambda text: UserData(text=text),
    ),
    fields=_Config(),
)
