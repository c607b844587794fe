"""What must hold of an environment beyond the form of its values: names, bounds, references.

Works on the resolved model, so that it holds for a user's file and for the API alike. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmorch.model.names import is_name
from vmorch.model.spec import EnvironmentSpec

Finding = tuple[str, str]  # path such as "services.web.ports[0]", message


def check(spec: EnvironmentSpec) -> list[Finding]:
    """Every problem of `spec`, as (path, message)."""
    return list(_names(spec))


def _names(spec: EnvironmentSpec) -> Iterator[Finding]:
    if not is_name(spec.name):
        yield "name", f"'{spec.name}' cannot name an environment."
