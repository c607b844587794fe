"""The JSON Schema of a vmorch file, for editors; from the same declarations as the validator."""

from __future__ import annotations

from typing import Any

from vmorch.model.compose.file import FILE


def json_schema() -> dict[str, Any]:
    """A schema (draft 2020-12) of one file before interpolation, merging and `!reset`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vmorch file",
        "description": "A Compose file whose services are virtual machines.",
    } | FILE.schema()
