"""Mistakes in a Dockerfile, and guesses at what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Mistake(ValueError):
    """One instruction is wrong; the parser adds file and line."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'X'?" or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
