"""The vmorch file: a Compose file, read into a resolved environment.

`load` reads files, `render` writes a resolved file back, `json_schema` is for editors. No I/O.
"""

from __future__ import annotations

from vmorch.model.compose.load import load
from vmorch.model.compose.parse import SourceFile
from vmorch.model.compose.render import render
from vmorch.model.compose.schema import json_schema

__all__ = ["SourceFile", "json_schema", "load", "render"]
