"""What the API shows and the client reads: flat values, made for people, scripts and tables.

Sizes are bytes, times seconds since the epoch. No field ever carries a secret. Each module is
small because making a dataclass takes time, and the command line needs few of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding of `vmorch doctor`; `hint` says what to do when it is not ok."""

    name: str
    ok: bool
    message: str
    hint: str = ""


def view_of(kind: type[T], document: dict[str, Any]) -> T:
    """`document` as a `kind`, without the fields that a newer daemon may have added."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in document.items() if key in known})
