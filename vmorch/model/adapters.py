"""Pydantic's adapters for the model's values. Building one takes milliseconds: once per kind.

Pydantic is imported at the first use, as it costs a light program more than everything else that
it does.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@cache
def adapter_of(kind: Any, *, strict: bool) -> TypeAdapter[Any]:
    """`strict` is for what comes from outside: unknown keys, NaN and values of another type are
    refused. Else unknown keys are passed over, such as those that an older vmorch stored."""
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False) if strict else None
    return TypeAdapter(kind, config=config)
