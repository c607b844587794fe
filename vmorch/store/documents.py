"""Frozen values as JSON documents and back, for the columns of the store."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")

_adapters: dict[type[Any], TypeAdapter[Any]] = {}


def _adapter(kind: type[T]) -> TypeAdapter[T]:
    """Building one takes milliseconds: once per kind."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def dumped(kind: type[T], value: T) -> str:
    return _adapter(kind).dump_json(value).decode()


@lru_cache(maxsize=8192)
def loaded(kind: type[T], text: str) -> T:
    """The value in `text`. Equal texts give the same object, as each cycle reads every document
    and few have changed; that is safe because the values are frozen."""
    return _adapter(kind).validate_json(text)
