"""Sudden death without a process to kill: from some change of the disk on, none is made."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

CHANGES = ("unlink", "rmdir", "rename", "replace", "link", "mkdir")


class Died(BaseException):
    """No code of ours catches it, and what runs on its way out changes nothing more."""


class Death:
    """Comes at the change after `spared` ones, if there are so many."""

    def __init__(self, spared: int) -> None:
        self.came = False
        self._spared = spared

    def before(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*values: Any, **more: Any) -> Any:
            if self.came or not self._spared:
                self.came = True
                raise Died
            self._spared -= 1
            return change(*values, **more)

        return changed


@contextlib.contextmanager
def _dying(spared: int) -> Iterator[Death]:
    death = Death(spared)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Died):
        for name in CHANGES:
            patch.setattr(os, name, death.before(getattr(os, name)))
        yield death


@pytest.fixture
def dying() -> Callable[[int], AbstractContextManager[Any]]:
    return _dying
