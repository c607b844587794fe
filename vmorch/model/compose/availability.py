"""Keys whose form is checked but which this version of vmorch cannot act on yet.

One line here is the whole of the refusal: deleting it makes the key readable, and puts it into
the JSON Schema. Each is OBJECT.KEY, with the name that the object was declared under.
"""

from __future__ import annotations

NOT_YET = frozenset(
    {
        "service.blkio_config",
        "healthcheck.start_interval",
        "dependency.required",
        "dependency.restart",
    }
)


def not_available(what: str) -> str:
    return f"'{what}' is not available in this version of vmorch."
