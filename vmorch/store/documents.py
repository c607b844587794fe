"""Frozen values as JSON documents and back, for the columns of the store."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar, cast

from vmorch.model.adapters import adapter_of

T = TypeVar("T")


def dumped(kind: type[T], value: T) -> str:
    return adapter_of(cast("Any", kind), strict=False).dump_json(value).decode()


@lru_cache(maxsize=8192)
def loaded(kind: type[T], text: str) -> T:
    """The value in `text`. Equal texts give the same object, as each cycle reads every document
    and few have changed; that is safe because the values are frozen."""
    return cast("T", adapter_of(cast("Any", kind), strict=False).validate_json(text))
